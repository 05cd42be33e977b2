"""Times of a discrete process, each as likely as the others.

Source: Ho et al. 2020, "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239), algorithm 1.
"""

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from ..schedule import NoiseSchedule


def discrete_uniform(u: Tensor, schedule: NoiseSchedule, *, steps: Annotated[int, Ge(1)] = 1000) -> Tensor:
    """One of ``steps`` even times, t = i / steps for i = 1 ... steps.

    Args:
        u: Uniform numbers, (B,).
        schedule: Gives the range.
        steps: Number of times, T.
    """
    i = (u.to(torch.float64) * steps).floor().clamp(max=steps - 1) + 1
    return schedule.clip(schedule.t_min + (schedule.t_max - schedule.t_min) * i / steps)
