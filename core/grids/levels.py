"""From times to levels: what every grid ends in."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..level import Level
from ..schedule import NoiseSchedule

Grid = Callable[[NoiseSchedule, int], Tensor]


def levels_of(schedule: NoiseSchedule, times: Tensor) -> list[Level]:
    """The levels of a grid, the clean end included: 0-d float64 fields on the CPU.

    Args:
        schedule: Gives the levels.
        times: (steps,), falling.

    Raises:
        ValueError: No step, or a grid that does not fall.
    """
    if times.ndim != 1 or len(times) == 0:
        raise ValueError(f"a grid has at least one step; got times of shape {tuple(times.shape)}")
    clipped = schedule.clip(times.to(torch.float64))
    if not (clipped.diff() < 0).all():  # no level twice: samplers divide by the step
        noisiest, cleanest = schedule.ends()
        raise ValueError(
            f"a grid falls from noise to image, here from t = {noisiest:.6g} to {cleanest:.6g}, each level once;"
            f" got the times {[round(float(t), 6) for t in times]}"
        )
    return [*(schedule.at(t) for t in clipped), schedule.clean]


def at_least_one(steps: int) -> int:
    """``steps``, which must be a number of steps."""
    if steps < 1:
        raise ValueError(f"a grid has at least one step; got steps = {steps}")
    return steps


def fractions(steps: int) -> Tensor:
    """0 ... 1, (steps,); a single step starts at the noisy end."""
    return torch.linspace(0, 1, at_least_one(steps), dtype=torch.float64)
