"""Guidance by a scale: classifier-free guidance, and autoguidance with another reference.

Source: Ho & Salimans 2022, "Classifier-Free Diffusion Guidance" (arXiv 2207.12598), equation 6, the reference being
the network without the class; Karras et al. 2024, "Guiding a Diffusion Model with a Bad Version of Itself"
(arXiv 2406.02507), section 4, the reference being a weaker network. Cost: one batch of twice the size, or one batch of
each network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import MinLen
from torch import Tensor

from ..level import Level, like
from .base import Guidance


@dataclass(frozen=True, kw_only=True, eq=False)
class CFG(Guidance):
    """Classifier-free guidance, or autoguidance: x0_ref + w (x0_cond - x0_ref).

    Attributes:
        scale: w; 1 is no guidance, 0 the reference alone. A list gives image k its (k mod n)-th value. In a program
            also a tensor (B,), a scale for each image of the batch.
    """

    scale: float | Annotated[list[float], MinLen(1)] | Tensor

    def __post_init__(self) -> None:
        if isinstance(self.scale, Sequence) and not self.scale:
            raise ValueError("an empty list of guidance scales was given; write a number, or at least one in the list")

    @property
    def guides(self) -> bool:
        """Whether any scale is other than 1."""
        return bool((torch.as_tensor(self.scale) != 1).any())

    def for_images(self, numbers: Tensor) -> CFG:
        """The scales of these images, if there is a list of them."""
        if not isinstance(self.scale, Sequence):
            return self
        scales = torch.tensor(self.scale, dtype=torch.float64)
        return CFG(scale=scales[numbers.cpu() % len(scales)])

    def combine(self, conditional: Tensor, reference: Tensor, level: Level) -> Tensor:
        """X0_ref + w (x0_cond - x0_ref)."""
        # equation 6, (1 + w') eps(z, c) - w' eps(z) with w' = w - 1, of x0_hat, which is linear in eps
        return reference + like(self._w(conditional), reference) * (conditional - reference)

    def _w(self, x: Tensor) -> Tensor:
        """The scale: 0-d, or (B, 1, ..., 1)."""
        if isinstance(self.scale, Sequence):
            raise ValueError(
                "a list of guidance scales goes by the images' numbers: call for_images(numbers) first, or give a "
                "tensor (B,) with the scale of each image"
            )
        w = torch.as_tensor(self.scale, dtype=torch.float64)
        if w.ndim == 0:
            return w
        if w.shape != (len(x),):
            raise ValueError(f"guidance scales have the shape {tuple(w.shape)}, expected one an image: ({len(x)},)")
        return w.reshape(-1, *[1] * (x.ndim - 1))
