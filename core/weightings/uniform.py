"""Every level counts the same in the loss space.

Source: Ho et al. 2020, "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239), equation 14, for the noise.
"""

from torch import Tensor

from ..level import Level
from .base import LossSpace


def uniform(level: Level, space: LossSpace) -> Tensor:
    """Every level counts the same in the loss space: 1 / c_out^2 on x0_hat."""
    return space.c_out**-2
