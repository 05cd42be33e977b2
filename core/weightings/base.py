"""What a weighting is given, and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from ..level import Level


class LossSpace(NamedTuple):
    """The space in which a loss is taken, at one level: x0_hat = c_skip x + c_out F there.

    Attributes:
        c_skip: Float64, shaped like the level's fields.
        c_out: Likewise; the error of x0_hat is c_out times that of F.
        sigma_data: Standard deviation of the data.
    """

    c_skip: Tensor
    c_out: Tensor
    sigma_data: float


Weighting = Callable[[Level, LossSpace], Tensor]
