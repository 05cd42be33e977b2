"""Times of a discrete process, each as likely as the others.

Source: Ho et al. 2020, "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239), algorithm 1.
"""

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from ..schedule import NoiseSchedule
from ..table import TableSchedule

NOMINAL = 1000


def discrete_uniform(u: Tensor, schedule: NoiseSchedule, *, steps: Annotated[int, Ge(1)] | None = None) -> Tensor:
    """One of ``steps`` even times, t = i / steps for i = 1 ... steps.

    Args:
        u: Uniform numbers, (B,).
        schedule: Gives the range.
        steps: Number of times, T; null is the schedule's own, or 1000 for a schedule that has no table.
    """
    count = steps or (schedule.steps if isinstance(schedule, TableSchedule) else NOMINAL)
    i = (u.to(torch.float64) * count).floor().clamp(max=count - 1) + 1
    return schedule.clip(schedule.t_min + (schedule.t_max - schedule.t_min) * i / count)
