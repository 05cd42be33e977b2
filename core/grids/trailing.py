"""Every (T / steps)-th step of a table, counted from the last.

Source: Lin et al. 2023 (arXiv 2305.08891), section 3.3 and table 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..schedule import NoiseSchedule
from .table_steps import Table, at_steps, table_length


def trailing(schedule: NoiseSchedule, steps: int, *, table: Table = None) -> Tensor:
    """Steps T, T - c, T - 2 c, ... of a table, c = T / steps, rounded: it begins at pure noise.

    Args:
        schedule: Gives the range.
        steps: Number of them, at most T.
        table: T; null is the schedule's own, or 1000.
    """
    length = table_length(schedule, steps, table)
    # table 2: round(flip(arange(T, 0, -T / steps)))
    return at_steps(schedule, (length - torch.arange(steps, dtype=torch.float64) * length / steps).round(), length)
