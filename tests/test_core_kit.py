"""The contract kit must say no: every check of samplers is shown one that it has to refuse."""

import itertools
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from dmf.core import Context, Denoise, Level, Sampler
from dmf.testing import (
    SAMPLER_CHECKS,
    Arc,
    Straight,
    check_sampler,
    errors_of,
    order_of,
    smooth_grid,
    unlike_schedules,
)
from dmf.testing import samplers as kit

Step = tuple[Tensor, Any]


class Last(NamedTuple):
    x0: Tensor
    half_log_snr: Tensor


class Multistep(Sampler[Last]):
    """What a third party may bring: DPM-Solver++(2M), Lu et al. 2022, algorithm 2; remembers through the state."""

    order = 2

    def step(self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: Last | None, context: Context) -> Step:
        x0 = denoise(x, now)
        if not then.sigma > 0:
            return x0, None
        h, d = (then.log_snr - now.log_snr) / 2, x0
        if state is not None:
            d = x0 + (x0 - state.x0) * h / (2 * (now.log_snr / 2 - state.half_log_snr))
        x = then.sigma / now.sigma * x - then.alpha * torch.expm1(-h) * d
        return x, Last(x0, now.log_snr / 2)


class Midpoint(Sampler[None]):
    """Asks the schedule for a level in between: DPM-Solver-2, Lu et al. 2022, algorithm 1."""

    order, evaluations = 2, 2

    def step(self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context) -> Step:
        x0 = denoise(x, now)
        if not then.sigma > 0:
            return x0, None
        middle = context.schedule.at(context.schedule.t_at((now.log_snr + then.log_snr) / 2))
        there = denoise(middle.mix(x0, now.noise_in(x, x0)), middle)
        h = (then.log_snr - now.log_snr) / 2
        return then.sigma / now.sigma * x - then.alpha * torch.expm1(-h) * there, None


class Plain(Sampler[None]):
    """A correct sampler, to be broken below."""

    order: int | None = 1

    def step(self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context) -> Step:
        x0 = denoise(x, now)
        return then.mix(x0, now.noise_in(x, x0)), None


class Noisy(Plain):
    """A correct stochastic sampler, to be broken below."""

    order = None
    stochastic = True

    def step(self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context) -> Step:
        x0 = denoise(x, now)
        share = (then.ratio / now.ratio) ** 2
        mean = then.alpha * ((1 - share) * x0 + share / now.alpha * x)
        return (mean + then.sigma * (1 - share).sqrt() * context.randn() if then.sigma > 0 else mean), None


@pytest.mark.parametrize("sampler", [Multistep(), Midpoint(), Plain(), Noisy()], ids=lambda s: type(s).__name__)
def test_right_samplers_pass(sampler: Sampler[Any]) -> None:
    check_sampler(sampler)


class WrongOrder(Plain):
    order = 2


class Modest(Multistep):
    order = 1


class Slipped(Multistep):
    """A coefficient is 1 % off."""

    def step(self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: Last | None, context: Context) -> Step:
        there, last = super().step(denoise, x, now, then, state, context)
        if state is not None and last is not None:
            h = (then.log_snr - now.log_snr) / 2
            slope = (last.x0 - state.x0) * h / (2 * (last.half_log_snr - state.half_log_snr))
            there = there + 0.01 * then.alpha * torch.expm1(-h) * slope
        return there, last


class SteppingInTime(Plain):
    """Euler in t: true on a straight path, and on no other."""

    def step(self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context) -> Step:
        x0 = denoise(x, now)
        return x + (then.t - now.t) * (now.noise_in(x, x0) - x0), None


class Unscaled(Plain):
    """Forgets alpha: right where alpha = 1 and nowhere else."""

    def step(self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context) -> Step:
        return x + (then.sigma - now.sigma) * (x - denoise(x, now)) / now.sigma, None


class NeverThere(Plain):
    """Leaves noise at the end: PITFALLS has it as the commonest bug of them all."""

    def step(self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context) -> Step:
        x0 = denoise(x, now)
        return then.mix(x0, now.noise_in(x, x0)) + 1e-3 * now.noise_in(x, x0), None


class NoLastStep(Midpoint):
    """Divides infinity by infinity where sigma is 0."""

    def step(self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context) -> Step:
        x0 = denoise(x, now)
        h = then.log_snr - now.log_snr
        return then.sigma / now.sigma * x + then.alpha * x0 * (h / 2) / (h / 2) * (1 - torch.exp(-h / 2)), None


class Neighbourly(Plain):
    """Looks at the whole batch."""

    def step(self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context) -> Step:
        x0 = denoise(x, now)
        return then.mix(x0 + 1e-3 * then.sigma * x0.mean(0), now.noise_in(x, x0)), None


class Forgetful(Plain):
    """Keeps the state in the object."""

    def __init__(self) -> None:
        self.last: Tensor | None = None

    def step(self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context) -> Step:
        x0 = denoise(x, now)
        blend = x0 if self.last is None else 0.99 * x0 + 0.01 * self.last.mean()
        self.last = x0
        return then.mix(blend, now.noise_in(x, x0)), None


class InPlace(Plain):
    def step(self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context) -> Step:
        eps = now.noise_in(x, denoise(x, now))
        x -= now.sigma * eps
        return x * (then.alpha / now.alpha) + then.sigma * eps, None


class Widening(Plain):
    def step(self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context) -> Step:
        return super().step(denoise, x * torch.ones(1, dtype=torch.float64), now, then, state, context)


class Costly(Plain):
    def step(self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context) -> Step:
        denoise(x, now)
        return super().step(denoise, x, now, then, state, context)


class AsksAtZero(Midpoint):
    def step(self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context) -> Step:
        denoise(x, then)
        return super().step(denoise, x, now, then, state, context)


class Secretive(Plain):
    """Random without saying so."""

    def step(self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context) -> Step:
        x, state = super().step(denoise, x, now, then, state, context)
        return x + 0 * context.randn(), state


class Global(Noisy):
    """Draws from torch's generator."""

    def step(self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context) -> Step:
        torch.randn(1)
        return super().step(denoise, x, now, then, state, context)


class Idle(Plain):
    """Says it is stochastic, asks, and throws the numbers away."""

    order, stochastic = None, True

    def step(self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context) -> Step:
        context.randn()
        return super().step(denoise, x, now, then, state, context)


class Loud(Noisy):
    """Adds fresh noise and takes too little of the old away."""

    def step(self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context) -> Step:
        x0 = denoise(x, now)
        fresh = then.sigma * (1 - (then.ratio / now.ratio) ** 2).sqrt()
        return then.mix(x0, now.noise_in(x, x0)) + (0.5 * fresh * context.randn() if then.sigma > 0 else 0), None


class Biased(Noisy):
    """Drifts: the mean of what comes out is not that of the data."""

    def step(self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context) -> Step:
        x, state = super().step(denoise, x, now, then, state, context)
        return x + 0.02 * then.sigma, state


class Swollen(Noisy):
    """A little too much fresh noise, which more steps do not mend."""

    def step(self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context) -> Step:
        noise = context.randn() if then.sigma > 0 else x
        louder = replace(context, randn=lambda: 1.03 * noise)
        return super().step(denoise, x, now, then, state, louder)


class Severed(Plain):
    def step(self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context) -> Step:
        return super().step(denoise, x.detach(), now, then, state, context)


REFUSED = [
    (WrongOrder(), kit.check_order, "declares order 2; measured is (0.9|1.0)"),
    (Slipped(), kit.check_order, "more steps lead away from it|declares order 2; measured is"),
    (Modest(), kit.check_order, "declares order 1; measured is (1.9|2.0)"),
    (SteppingInTime(), kit.check_agreement, "on schedule"),
    (Unscaled(), kit.check_agreement, "on schedule arc"),
    (NeverThere(), kit.check_short_grids, "is left at sigma = 0"),
    (NoLastStep(), kit.check_short_grids, "not finite"),
    (Neighbourly(), kit.check_batches, "with the batch"),
    (Forgetful(), kit.check_memory, "put it into the state"),
    (InPlace(), kit.check_memory, "writes into the x"),
    (Widening(), kit.check_dtype, "turns float32 into"),
    (Costly(), kit.check_evaluations, r"declares 1 evaluations a step; the steps took \[2, 2"),
    (AsksAtZero(), kit.check_evaluations, "at sigma = 0"),
    (Secretive(), kit.check_randomness, "declares stochastic = False, but asked"),
    (Global(), kit.check_randomness, "torch's own generator"),
    (Idle(), kit.check_randomness, "does not use it"),
    (Severed(), kit.check_gradients, "no gradient"),
    (Loud(), kit.check_moments, "covariance"),
    (Biased(), kit.check_moments, "mean is"),
    (Swollen(), kit.check_convergence, r"the samples' covariance goes to a limit (9|10).\d% away"),
    (Loud(), kit.check_convergence, r"error of the samples' covariance is .* with 240; it is to fall"),
    (Biased(), kit.check_convergence, "error of the samples' mean is"),
]


@pytest.mark.parametrize(("sampler", "check", "sentence"), REFUSED, ids=lambda v: type(v).__name__)
def test_wrong_samplers_are_refused(sampler: Sampler[Any], check: Any, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check(sampler)


@pytest.mark.parametrize(("sampler", "sentence"), [(WrongOrder(), "order"), (Biased(), "mean is")])
def test_check_sampler_runs_them_from_the_first_to_the_last(sampler: Sampler[Any], sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_sampler(sampler)


def test_every_check_has_something_that_it_refuses() -> None:
    assert {check for _, check, _ in REFUSED} == set(SAMPLER_CHECKS)


def test_order_needs_errors_above_rounding_and_no_noise() -> None:
    class Perfect(Plain):
        def step(self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: None, context: Context) -> Step:
            return kit.POINT.solution(x, now, then), None

    with pytest.raises(ValueError, match="are rounding"):
        order_of(Perfect(), kit.POINT, Arc())
    with pytest.raises(AssertionError, match="asked for noise"):
        order_of(Noisy(), kit.BLOBS, Arc())


def test_the_grid_of_orders_is_even_and_ends_above_zero() -> None:
    levels = smooth_grid(Straight(), 12)
    falls = [float(b.log_snr - a.log_snr) for a, b in itertools.pairwise(levels)]
    assert falls == pytest.approx([22 / 12] * 12) and levels[-1].sigma > 0
    table = unlike_schedules()["table"]
    assert smooth_grid(table, 3)[0].t == table.ends()[0], "where log SNR -16 is out of reach"
    errors = errors_of(Plain(), kit.BLOBS, Arc(), (10, 20))
    assert errors[0] > 1.5 * errors[1] > 0
