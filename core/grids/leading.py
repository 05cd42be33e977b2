"""Every (T // steps)-th step of a table, counted from the first.

Source: Song et al. 2020 (arXiv 2010.02502), appendix D.2, "linear": tau_i = floor(c i). Named by Lin et al. 2023
(arXiv 2305.08891), table 2, which also shows its fault: it does not begin at the noisiest level.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from ..schedule import NoiseSchedule
from .table_steps import Table, at_steps, table_length


def leading(schedule: NoiseSchedule, steps: int, *, table: Table = None, offset: Annotated[int, Ge(0)] = 0) -> Tensor:
    """Steps 1, 1 + c, 1 + 2 c, ... of a table, c = T // steps.

    Args:
        schedule: Gives the range.
        steps: Number of them, at most T.
        table: T; null is the schedule's own, or 1000.
        offset: Added to every step; Stable Diffusion has 1.
    """
    length = table_length(schedule, steps, table)
    i = torch.arange(steps - 1, -1, -1, dtype=torch.float64) * (length // steps) + 1 + offset
    if i[0] > length:
        raise ValueError(f"the grid leading with offset = {offset} begins at step {int(i[0])}, but there are {length}")
    return at_steps(schedule, i, length)
