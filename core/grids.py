"""Time grids: where the steps of a sampler lie. Independent of schedule and sampler.

A grid is a function (schedule, steps, *, options) -> (steps,) times, noisiest first, each the start of a step; the
last step ends at the clean image, which `levels_of` appends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from .level import Level
from .schedule import NoiseSchedule

Grid = Callable[[NoiseSchedule, int], Tensor]


def levels_of(schedule: NoiseSchedule, times: Tensor) -> list[Level]:
    """The levels of a grid, the clean end included: 0-d float64 fields on the CPU.

    Args:
        schedule: Gives the levels.
        times: (steps,), falling.

    Raises:
        ValueError: No step, or a grid that does not fall.
    """
    if times.ndim != 1 or len(times) == 0:
        raise ValueError(f"a grid has at least one step; got times of shape {tuple(times.shape)}")
    clipped = schedule.clip(times.to(torch.float64))
    if not (clipped.diff() < 0).all():  # no level twice: samplers divide by the step
        noisiest, cleanest = schedule.ends()
        raise ValueError(
            f"a grid falls from noise to image, here from t = {noisiest:.6g} to {cleanest:.6g}, each level once;"
            f" got the times {[round(float(t), 6) for t in times]}"
        )
    return [*(schedule.at(t) for t in clipped), schedule.clean]


def uniform(schedule: NoiseSchedule, steps: int) -> Tensor:
    """Evenly spaced in t. On a table of T betas with T steps these are DDPM's own T ... 1."""
    noisiest, cleanest = schedule.ends()
    # the last step starts one stride before t_min, or where the schedule's cleanest level is
    stride = (noisiest - schedule.t_min) / _at_least_one(steps)
    return torch.linspace(noisiest, max(schedule.t_min + stride, cleanest), steps, dtype=torch.float64)


def log_snr(
    schedule: NoiseSchedule,
    steps: int,
    *,
    sigma_min: Annotated[float, Gt(0)] = 0.002,
    sigma_max: Annotated[float, Gt(0)] = 80.0,
) -> Tensor:
    """Evenly spaced in log SNR. Lu et al. 2022 (arXiv 2206.00927), section 3.4.

    Args:
        schedule: Gives the times of levels.
        steps: Number of them.
        sigma_min: Cleanest sigma / alpha, kept within the schedule's own range.
        sigma_max: Noisiest sigma / alpha, likewise.
    """
    r_max, r_min = _ratios(schedule, sigma_min, sigma_max)
    return schedule.t_at(-2 * torch.lerp(r_max.log(), r_min.log(), _fractions(steps)))


def karras(
    schedule: NoiseSchedule,
    steps: int,
    *,
    rho: Annotated[float, Gt(0)] = 7.0,
    sigma_min: Annotated[float, Gt(0)] = 0.002,
    sigma_max: Annotated[float, Gt(0)] = 80.0,
) -> Tensor:
    """Evenly spaced in (sigma / alpha)^(1 / rho). Karras et al. 2022 (arXiv 2206.00364), equation 5.

    Args:
        schedule: Gives the times of levels.
        steps: Number of them.
        rho: Larger puts more steps at the clean end.
        sigma_min: Cleanest sigma / alpha, kept within the schedule's own range.
        sigma_max: Noisiest sigma / alpha, likewise.
    """
    r_max, r_min = _ratios(schedule, sigma_min, sigma_max)
    r = torch.lerp(r_max ** (1 / rho), r_min ** (1 / rho), _fractions(steps)) ** rho
    return schedule.t_at(-2 * r.log())


def _at_least_one(steps: int) -> int:
    if steps < 1:
        raise ValueError(f"a grid has at least one step; got steps = {steps}")
    return steps


def _fractions(steps: int) -> Tensor:
    """0 ... 1, (steps,); a single step starts at the noisy end."""
    return torch.linspace(0, 1, _at_least_one(steps), dtype=torch.float64)


def _ratios(schedule: NoiseSchedule, sigma_min: float, sigma_max: float) -> tuple[Tensor, Tensor]:
    """(r_max, r_min): the wanted range of sigma / alpha, as far as the schedule reaches."""
    if not sigma_min < sigma_max:
        raise ValueError(f"a grid needs sigma_min < sigma_max; got {sigma_min} and {sigma_max}")
    r = schedule.at(torch.tensor(schedule.ends(), dtype=torch.float64)).ratio
    r_max, r_min = r[0].clamp(max=sigma_max), r[1].clamp(min=sigma_min)
    if not r_min < r_max:
        raise ValueError(f"the schedule has sigma / alpha in {float(r[1])} ... {float(r[0])}, outside the grid's range")
    return r_max, r_min
