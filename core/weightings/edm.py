"""EDM's weighting: uniform in the space of its own prediction.

Source: Karras et al. 2022, "Elucidating the Design Space" (arXiv 2206.00364), table 1, with sigma = r = sigma / alpha.
"""

from torch import Tensor

from ..level import Level
from .base import LossSpace


def edm(level: Level, space: LossSpace) -> Tensor:
    """(r^2 + sigma_data^2) / (r sigma_data)^2 on x0_hat: uniform on what `edm` predicts."""
    r = level.ratio
    # table 1, loss weighting: lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2
    return (r**2 + space.sigma_data**2) / (r * space.sigma_data) ** 2
