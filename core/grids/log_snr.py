"""Even steps in log SNR.

Source: Lu et al. 2022 (arXiv 2206.00927), section 3.4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..schedule import NoiseSchedule
from .levels import fractions
from .ratios import Ratio, ratios, times_of


def log_snr(schedule: NoiseSchedule, steps: int, *, sigma_min: Ratio = None, sigma_max: Ratio = None) -> Tensor:
    """Evenly spaced in log SNR.

    Args:
        schedule: Gives the times of levels.
        steps: Number of them.
        sigma_min: Cleanest sigma / alpha; null is 0.002, or the schedule's cleanest.
        sigma_max: Noisiest sigma / alpha; null is 80, or the schedule's noisiest.
    """
    r_max, r_min = ratios(schedule, sigma_min, sigma_max)
    return times_of(schedule, torch.lerp(r_max.log(), r_min.log(), fractions(steps)).exp())
