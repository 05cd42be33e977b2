"""The cosine in continuous time: the path runs along a quarter of a circle.

Source: Salimans & Ho 2022, "Progressive Distillation for Fast Sampling of Diffusion Models" (arXiv 2202.00512),
section 2 and appendix D; Albergo & Vanden-Eijnden 2023 (arXiv 2209.15571) call it the trigonometric interpolant.
"""

import math

import torch
from torch import Tensor

from ...core import NoiseSchedule


class CosineVP(NoiseSchedule):
    """The cosine in continuous time: alpha = cos(pi t / 2), sigma = sin(pi t / 2), down to noise alone."""

    def alpha(self, t: Tensor) -> Tensor:
        """The cosine."""
        return torch.cos(math.pi / 2 * t)

    def sigma(self, t: Tensor) -> Tensor:
        """The sine."""
        return torch.sin(math.pi / 2 * t)

    def t_at(self, log_snr: Tensor | float) -> Tensor:
        """The inverse of log SNR = -2 ln tan(pi t / 2)."""
        return 2 / math.pi * torch.atan(torch.exp(-torch.as_tensor(log_snr, dtype=torch.float64) / 2))
