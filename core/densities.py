"""Densities of training times: which levels a network practises on.

A density is a function (u, schedule, *, options) -> t that maps uniform numbers u in [0, 1), (B,), to times, float64.
Where u comes from is not its business: independent draws or a stratified set work alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from .schedule import NoiseSchedule

Density = Callable[[Tensor, NoiseSchedule], Tensor]


def uniform(u: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Evenly over the schedule's range."""
    noisiest, cleanest = schedule.ends()
    return cleanest + (noisiest - cleanest) * u.to(torch.float64)


def discrete_uniform(u: Tensor, schedule: NoiseSchedule, *, steps: Annotated[int, Ge(1)] = 1000) -> Tensor:
    """One of ``steps`` even times, t = i / steps for i = 1 ... steps. Ho et al. 2020 (arXiv 2006.11239), algorithm 1.

    Args:
        u: Uniform numbers, (B,).
        schedule: Gives the range.
        steps: Number of times, T.
    """
    i = (u.to(torch.float64) * steps).floor().clamp(max=steps - 1) + 1
    return schedule.clip(schedule.t_min + (schedule.t_max - schedule.t_min) * i / steps)


def logit_normal(
    u: Tensor, schedule: NoiseSchedule, *, mean: float = 0.0, std: Annotated[float, Gt(0)] = 1.0
) -> Tensor:
    """Logit of t is normal: more practice in the middle. Esser et al. 2024 (arXiv 2403.03206), equation 19.

    Args:
        u: Uniform numbers, (B,).
        schedule: Gives the range.
        mean: Of the logit; above 0 is noisier.
        std: Of the logit.
    """
    t = torch.sigmoid(mean + std * torch.special.ndtri(u.to(torch.float64)))
    return schedule.clip(schedule.t_min + (schedule.t_max - schedule.t_min) * t)
