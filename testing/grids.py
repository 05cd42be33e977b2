"""What any grid must hold to."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core import Grid, NoiseSchedule, levels_of
from .claims import called, cannot, hold, require
from .schedules import unlike_schedules

MOST = 50
STEPS = (1, 2, 3, 5, 8, 13, 21, MOST)


def check_grid(grid: Grid) -> None:
    """Hold a grid to the interface: every check below.

    Raises:
        AssertionError: With a sentence, at the first that fails.
    """
    hold(GRID_CHECKS, grid)


def check_steps(grid: Grid) -> None:
    """1 to 50 steps work on every schedule, or, of a grid that is a list, as many as it has."""
    for name, schedule in unlike_schedules().items():
        given = {n: _times(grid, schedule, n) for n in range(1, MOST + 1)}
        refused = [n for n, times in given.items() if isinstance(times, str)]
        said = f"{called(grid)} on schedule {name} refuses {len(refused)} of 1 to {MOST} steps"
        require(len(refused) in (0, MOST - 1), f"{said}: {given[(refused or [1])[0]]}")
        for n, times in given.items():
            got = None if isinstance(times, str) else tuple(times.shape)
            require(got in (None, (n,)), f"{called(grid)} on schedule {name} was asked for {n} times and gave {got}")


def check_levels(grid: Grid) -> None:
    """Times are float64, within the schedule's range, and fall to the image, each level once."""
    for where, schedule, times in _some(grid):
        require(times.dtype == torch.float64, f"{where} gives {times.dtype}, not float64")
        outside = times[(times < schedule.t_min) | (times > schedule.t_max)].tolist()
        require(not outside, f"{where} leaves the schedule's {schedule.t_min} ... {schedule.t_max}: {outside[:3]}")
        try:
            levels_of(schedule, times)  # where core keeps them between the schedule's ends
        except ValueError as error:
            require(False, f"{where}: {error}")


def check_repeats(grid: Grid) -> None:
    """The same grid again, whatever was asked in between."""
    first = {where: times for where, _, times in _some(grid)}
    for where, _, times in _some(grid):
        require(torch.equal(times, first[where]), f"{where} is another one when asked again")


GRID_CHECKS = (check_steps, check_levels, check_repeats)


def _times(grid: Grid, schedule: NoiseSchedule, steps: int) -> Tensor | str:
    """The times, or why there are none."""
    try:
        return grid(schedule, steps)
    except ValueError as error:
        return str(error)


def _some(grid: Grid) -> list[tuple[str, NoiseSchedule, Tensor]]:
    """(where, schedule, times) of grids short and long, as far as they can be had."""
    found = []
    for name, schedule in unlike_schedules().items():
        for steps in STEPS:
            times = _times(grid, schedule, steps)
            if not isinstance(times, str):
                found.append((f"{called(grid)} of {steps} steps on schedule {name}", schedule, times))
    if not found:
        cannot(f"{called(grid)} gives none of {STEPS} steps")
    return found
