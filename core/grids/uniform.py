"""Even steps in time.

Source: Song et al. 2021 (arXiv 2011.13456), section 4.2 and algorithms 2 and 3: a discretisation even in t.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..schedule import NoiseSchedule
from .levels import at_least_one


def uniform(schedule: NoiseSchedule, steps: int) -> Tensor:
    """Evenly spaced in t. On a table of T betas with T steps these are DDPM's own T ... 1."""
    noisiest, cleanest = schedule.ends()
    # the last step starts one stride before t_min, or where the schedule's cleanest level is
    stride = (noisiest - schedule.t_min) / at_least_one(steps)
    return torch.linspace(noisiest, max(schedule.t_min + stride, cleanest), steps, dtype=torch.float64)
