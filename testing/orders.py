"""Order of convergence, measured from pure noise on.

A multistep method begins with steps of lower order. In noise x0_hat hardly moves, so that every method is exact there
and those steps do not show; begun at log SNR -6 they hide an order of 3 or 4.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..core import Context, Level, NoiseSchedule, Sampler, generator, sample
from .exact import Mixture
from .ode import reference_end

POINTS = 32
STEPS = (120, 170, 240)  # enough for the slowest of order 4 that we know to be within 0.2 of it
ROUNDING = 1e-10  # errors below are the reference's own


def smooth_grid(schedule: NoiseSchedule, steps: int, noisy: float = -16.0, clean: float = 6.0) -> list[Level]:
    """``steps`` steps even in log SNR, ending at sigma > 0: the last, lower-order step to zero is not among them.

    Args:
        schedule: Gives the levels.
        steps: Number of steps, each between two levels of the grid.
        noisy: Log SNR of the first level, or the schedule's own noisiest.
        clean: Log SNR of the last.
    """
    noisiest = schedule.at(schedule.ends()[0]).log_snr
    log_snr = torch.linspace(max(noisy, float(noisiest)), clean, steps + 1, dtype=torch.float64)
    return [schedule.at(t) for t in schedule.t_at(log_snr)]


def order_of(sampler: Sampler[Any], exact: Mixture, schedule: NoiseSchedule, steps: Sequence[int] = STEPS) -> float:
    """The p for which the error falls as steps^-p: the slope of log error against log steps, by least squares.

    Args:
        sampler: A deterministic one.
        exact: The data, through their exact denoiser.
        schedule: Gives the levels.
        steps: Numbers of steps, at least two.
    """
    errors = torch.tensor(errors_of(sampler, exact, schedule, steps), dtype=torch.float64)
    usable = errors > ROUNDING
    if usable.sum() < 2:
        raise ValueError(f"the errors {errors.tolist()} are rounding; measure the order with fewer steps than {steps}")
    log_steps = torch.tensor(steps, dtype=torch.float64).log()[usable]
    log_error = errors.log()[usable]
    off = log_steps - log_steps.mean()
    return float(-(off * log_error).sum() / (off**2).sum())


def orders_on_the_way(sampler: Sampler[Any], exact: Mixture, schedule: NoiseSchedule) -> tuple[float, float]:
    """The order between 60 and 120 steps, and between 120 and 240: of a right method the second is the nearer one.

    A wrong coefficient adds an error of lower order. While it is small it may cancel against the right one, and the
    order seems to rise.
    """
    errors = errors_of(sampler, exact, schedule, (60, 120, 240))
    first, second = (math.log2(a / b) for a, b in itertools.pairwise(errors))
    return first, second if errors[-1] > 100 * ROUNDING else first  # where rounding shows, there is but one figure


def errors_of(sampler: Sampler[Any], exact: Mixture, schedule: NoiseSchedule, steps: Sequence[int]) -> list[float]:
    """Root-mean-square distance, in x / alpha, from the exact end of the probability-flow ODE, for each number."""
    first, *_, last = smooth_grid(schedule, min(steps))
    x = exact.sample_at(first, POINTS, generator(0, "order", 0))
    end = reference_end(exact.denoise, x, schedule, first, last)
    ends = [sample(sampler, exact.denoise, x, smooth_grid(schedule, n), Context(schedule, _no_noise)) for n in steps]
    return [float(((got - end) / last.alpha).square().mean().sqrt()) for got in ends]


def _no_noise() -> Tensor:
    raise AssertionError("order is measured on deterministic samplers, but this one asked for noise")
