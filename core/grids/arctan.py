"""Even steps in an angle: dense where an image takes shape, ever sparser towards pure noise and towards the image.

theta = arctan((r / center)^(1 / spread)) of r = sigma / alpha. With center = sigma_data and spread = 1 it is the time
of Lu & Song 2024 (arXiv 2410.11081), section 3, and with 1 and 1 the angle of Salimans & Ho 2022 (arXiv 2202.00512),
appendix D. The two constants are ours, chosen by measurement (docs/samplers.md).
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from ..schedule import NoiseSchedule
from .levels import at_least_one
from .ratios import Ratio, ratios, times_of

EVERYTHING = 0.0, math.inf  # the grid slows down by itself: no end need be cut off


def arctan(
    schedule: NoiseSchedule,
    steps: int,
    *,
    center: Annotated[float, Gt(0)] = 1.0,
    spread: Annotated[float, Gt(0)] = 2.0,
    sigma_min: Ratio = None,
    sigma_max: Ratio = None,
) -> Tensor:
    """Evenly spaced in arctan((sigma / alpha / center)^(1 / spread)), the last step to 0 as long as the others.

    Args:
        schedule: Gives the times of levels.
        steps: Number of them.
        center: sigma / alpha around which steps are densest.
        spread: How far from there they remain dense; towards infinity the grid becomes `log_snr`.
        sigma_min: Cleanest sigma / alpha; null is the schedule's cleanest.
        sigma_max: Noisiest sigma / alpha; null is the schedule's noisiest.
    """
    r_max, r_min = ratios(schedule, sigma_min, sigma_max, EVERYTHING)
    high, low = (torch.arctan((r / center) ** (1 / spread)) for r in (r_max, r_min))
    last = torch.maximum(high / at_least_one(steps), low)
    theta = torch.lerp(high, last, torch.linspace(0, 1, steps, dtype=torch.float64))
    return times_of(schedule, (center * theta.tan() ** spread).clamp(r_min, r_max))
