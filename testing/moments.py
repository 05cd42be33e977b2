"""Where a sampler leads as its steps grow: the mean and the covariance of its samples, without drawing a number.

The denoiser of Gaussian data is affine, and so is every method of a fixed number of evaluations in x and in its random
numbers: a sample is c + A x + sum_k B_k z_k. One walk of a batch finds c, A and each B_k, for image 0 gets zeros alone
and every other image a single 1: in one component of the start, or of one draw. So there is no sampling error.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..core import Context, Level, Sampler, sample
from .claims import called, cannot, require
from .exact import Gaussian
from .schedules import Arc

DATA = Gaussian([0.7, -0.4], [0.5, 0.2])
STEPS = (120, 240)
# an error falls at least as 1 / steps: to a half. What is below NEGLIGIBLE (of the variance) is not looked at: churn's
# extra noise with S_noise = 1.003 leaves so much. Extrapolated to no step size at all, what is left is of second order
FALL, NEGLIGIBLE, LEFT = 0.7, 0.01, 0.03


def check_convergence(sampler: Sampler[Any]) -> None:
    """Mean and covariance come nearer to those of the data as the steps grow."""
    if sampler.evaluations is None:
        cannot(f"{called(sampler)} chooses its own steps")
    coarse, fine = (exact_moments(sampler, DATA, steps) for steps in STEPS)
    scale = float(DATA.covariance().diagonal().mean())
    wants = (("mean", DATA.mean(), scale**0.5), ("covariance", DATA.covariance(), scale))
    for (name, want, unit), before, after in zip(wants, coarse, fine, strict=True):
        limit = 2 * after - before
        errors = [float((got - want).abs().max()) / unit for got in (before, after, limit)]
        require(
            errors[1] < max(FALL * errors[0], NEGLIGIBLE),
            f"{called(sampler)}: the error of the samples' {name} is {errors[0]:.1%} with {STEPS[0]} steps and"
            f" {errors[1]:.1%} with {STEPS[1]}; it is to fall",
        )
        require(
            errors[2] < LEFT,
            f"{called(sampler)}: the samples' {name} goes to a limit {errors[2]:.1%} away as the steps grow",
        )


def exact_moments(sampler: Sampler[Any], data: Gaussian, steps: int) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of the samples of Gaussian data after so many steps, exactly.

    Args:
        sampler: Of a fixed number of evaluations a step.
        data: D numbers an image.
        steps: From log SNR -10 to 14, and to the clean image.
    """
    levels = _levels(steps)
    draws = _count_draws(sampler, data, levels)
    start = torch.zeros(1 + data.dim * (1 + draws), data.dim, dtype=torch.float64)
    axes = torch.eye(data.dim, dtype=torch.float64)
    start[1 : 1 + data.dim] = axes
    asked = iter(range(1, draws + 1))

    def randn() -> Tensor:
        z, first = torch.zeros_like(start), 1 + data.dim * next(asked)
        z[first : first + data.dim] = axes
        return z

    end = sample(sampler, data.denoise, start, levels, Context(Arc(), randn))
    constant, gains = end[0], end[1:] - end[0]  # (D,), (D (1 + draws), D): a row is the response to one component
    first = data.marginal(levels[0])
    mean = constant + first.means[0] @ gains[: data.dim]
    gains[: data.dim] *= first.std[:, None]
    return mean, gains.T @ gains


def _levels(steps: int) -> list[Level]:
    schedule = Arc()
    times = schedule.t_at(torch.linspace(-10, 14, steps, dtype=torch.float64))
    return [*(schedule.at(t) for t in times), schedule.clean]


def _count_draws(sampler: Sampler[Any], data: Gaussian, levels: list[Level]) -> int:
    asked = [0]

    def randn() -> Tensor:
        asked[0] += 1
        return torch.zeros(1, data.dim, dtype=torch.float64)

    sample(sampler, data.denoise, torch.zeros(1, data.dim, dtype=torch.float64), levels, Context(Arc(), randn))
    return asked[0]
