"""Steps of a table whose distances grow with the noise.

Source: Song et al. 2020 (arXiv 2010.02502), appendix D.2, "quadratic": tau_i = floor(c i^2), used there for CIFAR-10.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt, Le
from torch import Tensor

from ..schedule import NoiseSchedule
from .levels import fractions
from .table_steps import Table, at_steps, table_length


def quadratic(
    schedule: NoiseSchedule, steps: int, *, table: Table = None, reach: Annotated[float, Gt(0), Le(1)] = 1.0
) -> Tensor:
    """Steps 1 + floor(c i^2) of a table, each once.

    Args:
        schedule: Gives the range.
        steps: Number of them, at most T.
        table: T; null is the schedule's own, or 1000.
        reach: The noisiest step, as a share of T; the authors' code has 0.8.
    """
    length = table_length(schedule, steps, table)
    top = reach * length - 1
    if top < steps - 1:
        raise ValueError(
            f"the grid quadratic reaches step {int(top + 1)} of {length} with reach = {reach}; {steps} steps do not"
            " fit: ask for fewer, or let it reach further"
        )
    squared = ((1 - fractions(steps)) ** 2 * top).floor()
    # near the first step the squares are closer than 1: there the steps follow one another
    return at_steps(schedule, 1 + torch.maximum(squared, torch.arange(steps - 1, -1, -1, dtype=torch.float64)), length)
