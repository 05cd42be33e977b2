"""The signal-to-noise ratio: what a uniform loss on the noise is, seen from x0_hat.

Source: Salimans & Ho 2022, "Progressive Distillation" (arXiv 2202.00512), section 4.
"""

from torch import Tensor

from ..level import Level
from .base import LossSpace


def snr(level: Level, space: LossSpace) -> Tensor:
    """SNR on x0_hat: uniform on the noise, whatever is predicted."""
    return level.log_snr.exp()
