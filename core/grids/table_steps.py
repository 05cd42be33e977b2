"""What the grids of the discrete papers share: they choose among the steps 1 ... T of a table."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from ..schedule import NoiseSchedule
from ..table import TableSchedule
from .levels import at_least_one

NOMINAL = 1000
Table = Annotated[int, Ge(1)] | None


def table_length(schedule: NoiseSchedule, steps: int, table: int | None) -> int:
    """T: as given, the schedule's own, or 1000 for a schedule that has no table.

    Raises:
        ValueError: More steps than the table has.
    """
    found = table or (schedule.steps if isinstance(schedule, TableSchedule) else NOMINAL)
    if at_least_one(steps) > found:
        raise ValueError(
            f"the grid chooses among the {found} steps of a table; got steps = {steps}: ask for at most {found}, or"
            " take the grid uniform, which goes between them"
        )
    return found


def at_steps(schedule: NoiseSchedule, i: Tensor, table: int) -> Tensor:
    """The times of steps ``i``, step T being the noisiest."""
    return schedule.t_min + (schedule.t_max - schedule.t_min) * i / table
