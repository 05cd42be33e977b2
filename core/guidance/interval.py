"""Guidance in an interval of noise levels.

Source: Kynkäänniemi et al. 2024, "Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in
Diffusion Models" (arXiv 2404.07724), equation 5. Cost: the reference is asked inside the interval only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from ..level import Level
from .base import Around


@dataclass(frozen=True, kw_only=True)
class Interval(Around):
    """Guidance between two noise levels; outside, the conditional model alone.

    Attributes:
        sigma_min: The cleanest sigma / alpha that is no longer guided.
        sigma_max: The noisiest sigma / alpha that is guided; null is no limit.
    """

    sigma_min: Annotated[float, Ge(0)] = 0.0
    sigma_max: Annotated[float, Gt(0)] | None = None

    def __post_init__(self) -> None:
        if self.sigma_max is not None and not self.sigma_min < self.sigma_max:
            raise ValueError(
                f"sigma_min is {self.sigma_min} and sigma_max {self.sigma_max}: no level lies between; "
                "sigma_min is the smaller of the two, both are sigma / alpha"
            )

    def acts(self, level: Level) -> bool:
        """As the guidance inside, where any image is in the interval."""
        return bool(self._inside(level).any()) and self.of.acts(level)

    def combine(self, conditional: Tensor, reference: Tensor, level: Level) -> Tensor:
        """The guidance inside, or the conditional x0_hat, image by image."""
        inside = self._inside(level)
        if not inside.any():
            return conditional
        guided = self.of.combine(conditional, reference, level)
        # equation 5: w(sigma) = w inside, 1 outside
        return guided if inside.all() else torch.where(inside.to(guided.device), guided, conditional)

    def _inside(self, level: Level) -> Tensor:
        """Whether sigma_min < sigma / alpha <= sigma_max: bool, shaped like the level's fields."""
        above = level.ratio > self.sigma_min
        return above if self.sigma_max is None else above & (level.ratio <= self.sigma_max)
