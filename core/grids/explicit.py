"""A grid written out, level by level."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..schedule import NoiseSchedule
from .ratios import ROUNDING


def explicit(
    schedule: NoiseSchedule, steps: int, *, values: list[float], unit: Literal["t", "sigma", "log_snr"] = "t"
) -> Tensor:
    """The levels that are listed, noisiest first; the last step goes from the last of them to the image.

    Args:
        schedule: Gives the times of levels.
        steps: As many as there are values.
        values: The levels, noisiest first, without the image itself.
        unit: What the values are: times, sigma / alpha, or log SNR.

    Raises:
        ValueError: Another number of values than steps, or a value that the schedule has not.
    """
    if not values:
        raise ValueError("the grid explicit lists no level; write at least one, noisiest first, and as many steps")
    if len(values) != steps:
        raise ValueError(f"the grid explicit lists {len(values)} levels, one a step; set steps to {len(values)}")
    given = torch.tensor(values, dtype=torch.float64)
    if unit == "sigma" and not (given > 0).all():
        raise ValueError(f"sigma is above 0 wherever a step begins; got {values}: leave the image itself out")
    times = {
        "t": lambda: given,
        "sigma": lambda: schedule.t_at(-2 * given.log()),
        "log_snr": lambda: schedule.t_at(given),
    }[unit]()
    _within(schedule, given, unit)
    return times


def _within(schedule: NoiseSchedule, given: Tensor, unit: str) -> None:
    ends = schedule.at(torch.tensor(schedule.ends(), dtype=torch.float64))
    reach = {"t": ends.t, "sigma": ends.ratio, "log_snr": ends.log_snr}[unit]
    low, high = float(reach.min()), float(reach.max())
    margin = ROUNDING * (high - low if unit != "sigma" else 1.0)
    below, above = (low * (1 - margin), high * (1 + margin)) if unit == "sigma" else (low - margin, high + margin)
    outside = [float(v) for v in given if not below <= v <= above]
    if outside:
        raise ValueError(f"the schedule has {unit} from {low:.6g} to {high:.6g}; the grid lists {outside}")
