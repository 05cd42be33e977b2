"""Even steps of a table, from the last to the first, both among them.

Source: Nichol & Dhariwal 2021 (arXiv 2102.09672), section 4: "K evenly spaced real numbers between 1 and T, rounded".
Named by Lin et al. 2023 (arXiv 2305.08891), table 2.
"""

from __future__ import annotations

from torch import Tensor

from ..schedule import NoiseSchedule
from .levels import fractions
from .table_steps import Table, at_steps, table_length


def linspace(schedule: NoiseSchedule, steps: int, *, table: Table = None) -> Tensor:
    """Steps T ... 1 of a table, evenly, rounded; a single step is T.

    Args:
        schedule: Gives the range.
        steps: Number of them, at most T.
        table: T; null is the schedule's own, or 1000.
    """
    length = table_length(schedule, steps, table)
    return at_steps(schedule, (length + (1 - length) * fractions(steps)).round(), length)
