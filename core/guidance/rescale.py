"""Guidance without the growth in contrast.

Source: Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed" (arXiv 2305.08891), section
3.4, equations 15 and 16. The paper rescales what its network predicts (v); here it is x0_hat, all that a sampler sees,
so that the images do not depend on what the network was trained to predict. Cost: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from ..level import Level
from .base import Around


@dataclass(frozen=True, kw_only=True)
class Rescale(Around):
    """Brings the guided x0_hat back towards the standard deviation of the conditional one, image by image.

    Attributes:
        amount: phi; 0 changes nothing, 1 takes the conditional standard deviation.
    """

    amount: Annotated[float, Ge(0), Le(1)] = 0.7

    def combine(self, conditional: Tensor, reference: Tensor, level: Level) -> Tensor:
        """The guidance inside, rescaled."""
        guided = self.of.combine(conditional, reference, level)
        wanted, got = _std(conditional), _std(guided)
        # equations 15 and 16: phi (sigma_pos / sigma_cfg) x + (1 - phi) x; an even image has nothing to rescale
        return guided * torch.where(got > 0, 1 + self.amount * (wanted / got - 1), 1)


def _std(x: Tensor) -> Tensor:
    """The standard deviation of each image over channels and pixels, (B, 1, ..., 1)."""
    return x.flatten(1).std(1, correction=0).reshape(-1, *[1] * (x.ndim - 1))
