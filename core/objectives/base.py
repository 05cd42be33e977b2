"""What an objective judges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..conditioning import Cond
from ..level import Level


@dataclass(frozen=True)
class Attempt:
    """What an objective judges, in the loss space. Fields are added over time, never removed.

    Attributes:
        output: F, (B, C, *size).
        target: F*, likewise: what F would be for the true x0.
        error: F - F*, likewise, with all its digits, which the difference of the two rounded numbers may not have.
        weight: Factor on the squared error, (B, 1, ..., 1).
        x0: The clean x, (B, C, *size).
        x: The noised one.
        level: Its level.
        cond: Its conditioning, after label dropout.
        extras: Channels of the network beyond C, (B, any, *size).
    """

    output: Tensor
    target: Tensor
    error: Tensor
    weight: Tensor
    x0: Tensor
    x: Tensor
    level: Level
    cond: Cond
    extras: Tensor


Objective = Callable[[Attempt], Tensor]
