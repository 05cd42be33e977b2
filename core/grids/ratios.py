"""The range of sigma / alpha that a grid covers."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from ..schedule import NoiseSchedule

Ratio = Annotated[float, Gt(0)] | None
USUAL = 0.002, 80.0  # Karras et al. 2022 (arXiv 2206.00364), table 1
ROUNDING = 1e-6  # of a bound that a user copied from what was printed


def ratios(
    schedule: NoiseSchedule,
    sigma_min: float | None,
    sigma_max: float | None,
    usual: tuple[float, float] = USUAL,
) -> tuple[Tensor, Tensor]:
    """(r_max, r_min) of sigma / alpha, 0-d float64.

    Args:
        schedule: Says what there is.
        sigma_min: The wanted least; None is the usual one, as far as the schedule reaches.
        sigma_max: The wanted largest, likewise.
        usual: What None stands for.

    Raises:
        ValueError: A wanted value that the schedule has not, or a range that is none.
    """
    reach = schedule.at(torch.tensor(schedule.ends(), dtype=torch.float64)).ratio
    for name, wanted in (("sigma_min", sigma_min), ("sigma_max", sigma_max)):
        if wanted is not None and not reach[1] * (1 - ROUNDING) <= wanted <= reach[0] * (1 + ROUNDING):
            raise ValueError(
                f"the schedule has sigma / alpha from {float(reach[1]):.6g} to {float(reach[0]):.6g}; {name} ="
                f" {wanted:.6g} is outside: give one within, or leave it out"
            )
    low, high = (u if w is None else w for u, w in zip(usual, (sigma_min, sigma_max), strict=True))
    r_min, r_max = (torch.tensor(r, dtype=torch.float64).clamp(reach[1], reach[0]) for r in (low, high))
    if not r_min < r_max:
        raise ValueError(
            f"a grid needs sigma_min < sigma_max; got {float(r_min):.6g} and {float(r_max):.6g} on a schedule that"
            f" has {float(reach[1]):.6g} to {float(reach[0]):.6g}"
        )
    return r_max, r_min


def times_of(schedule: NoiseSchedule, r: Tensor) -> Tensor:
    """The times at which sigma / alpha is ``r``."""
    return schedule.t_at(-2 * r.log())
