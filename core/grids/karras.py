"""Even steps in a root of the noise level.

Source: Karras et al. 2022 (arXiv 2206.00364), equation 5.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from ..schedule import NoiseSchedule
from .levels import fractions
from .ratios import Ratio, ratios, times_of


def karras(
    schedule: NoiseSchedule,
    steps: int,
    *,
    rho: Annotated[float, Gt(0)] = 7.0,
    sigma_min: Ratio = None,
    sigma_max: Ratio = None,
) -> Tensor:
    """Evenly spaced in (sigma / alpha)^(1 / rho).

    Args:
        schedule: Gives the times of levels.
        steps: Number of them.
        rho: Larger puts more steps at the clean end.
        sigma_min: Cleanest sigma / alpha; null is 0.002, or the schedule's cleanest.
        sigma_max: Noisiest sigma / alpha; null is 80, or the schedule's noisiest.
    """
    r_max, r_min = ratios(schedule, sigma_min, sigma_max)
    # equation 5: sigma_i = (sigma_max^(1/rho) + i / (N - 1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho
    return times_of(schedule, torch.lerp(r_max ** (1 / rho), r_min ** (1 / rho), fractions(steps)) ** rho)
