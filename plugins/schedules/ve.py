"""The variance-exploding SDE: the noise grows geometrically.

Source: Song et al. 2021, "Score-Based Generative Modeling through Stochastic Differential Equations"
(arXiv 2011.13456), appendix C, equation 31. The range is theirs for CIFAR-10 (appendix C).
"""

import math
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from ._exploding import Exploding


class VE(Exploding):
    """Sigma = sigma_min (sigma_max / sigma_min)^t, alpha = 1 (variance-exploding SDE)."""

    def __init__(
        self,
        *,
        sigma_min: Annotated[float, Ge(1e-4), Le(1e4)] = 0.01,
        sigma_max: Annotated[float, Ge(1e-4), Le(1e4)] = 50.0,
    ) -> None:
        super().__init__(sigma_min, sigma_max)
        self.log_range = math.log(sigma_max / sigma_min)

    def sigma(self, t: Tensor) -> Tensor:
        """Equation 31: even steps of t are even steps of ln sigma."""
        return self.sigma_min * torch.exp(t * self.log_range)

    def t_at(self, log_snr: Tensor | float) -> Tensor:
        """The inverse: how far ln sigma has come."""
        return torch.log(self.sigma_at(log_snr) / self.sigma_min) / self.log_range
