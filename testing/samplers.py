"""What any sampler must hold to, whoever wrote it; each check is a function, and `check_sampler` runs them all.

Every check takes the sampler alone and raises AssertionError with a sentence. The data are mixtures whose denoiser is
known in closed form, so nothing here is trained and nothing is left to luck.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..core import (
    Context,
    Denoise,
    Denoiser,
    ImageStreams,
    Level,
    NoiseSchedule,
    Sampler,
    bind,
    generator,
    labels_cond,
    sample,
)
from ..core.grids import levels_of, log_snr, uniform
from ..core.guidance import CFG
from ..core.spec import DataSpec
from .claims import cannot, hold, require
from .exact import Gaussian, Mixture
from .labels import LevelOfLabel
from .moments import check_convergence
from .orders import order_of, orders_on_the_way
from .predictions import PREDICTIONS
from .schedules import unlike_schedules

SPEC = DataSpec((1, 2), ("left", "right"))
SHIFTS = [[-0.5, 0.2], [0.4, -0.3]]  # where the two classes lie, seen from the unconditional data
SCALE = 1.7
BLOBS = Mixture([[-1.0, -0.5], [0.2, 0.9], [1.0, -0.3]], 0.5, [0.3, 0.3, 0.4])  # overlapping, so smooth
POINT = Gaussian([0.3, -0.7], 0.0)
# a method of the order below is 1 away and one of the order above 1 too much; at these numbers of steps the fit
# wanders by 0.2 at most for the methods we know. More than declared is let pass further: it harms nobody
ORDER_BELOW, ORDER_ABOVE = 0.25, 0.5
ORDER_NEAR = 0.1
ROUNDING = 1e-9  # what float64 leaves of a dozen steps between log SNR -8 and 8, with a margin of 1e5
MOMENT_POINTS, MOMENT_STEPS = 10_000, 200
MOMENT_ERROR = 0.1  # of the variance: 4 standard errors of 10 000 points, and 4 % for an order-1 method's 200 steps


def check_sampler(sampler: Sampler[Any]) -> None:
    """Hold a sampler to the interface and to what it declares: every check below, a few seconds in all.

    Raises:
        AssertionError: With a sentence, at the first that fails.
    """
    hold(SAMPLER_CHECKS, sampler)


def check_order(sampler: Sampler[Any]) -> None:
    """It converges to the probability-flow ODE with the order that it declares."""
    if sampler.order is None:
        cannot(f"{_name(sampler)} declares no order")
    measured = order_of(sampler, BLOBS, unlike_schedules()["arc"])
    require(
        sampler.order - ORDER_BELOW <= measured <= sampler.order + ORDER_ABOVE,
        f"{_name(sampler)} declares order {sampler.order}; measured is {measured:.2f}",
    )
    first, second = (abs(one - sampler.order) for one in orders_on_the_way(sampler, BLOBS, unlike_schedules()["arc"]))
    require(
        second <= max(ORDER_NEAR, first),
        f"{_name(sampler)} declares order {sampler.order}, but more steps lead away from it, from {first:.2f} to"
        f" {second:.2f} off: some coefficient is a little wrong",
    )


def check_agreement(sampler: Sampler[Any]) -> None:
    """On one grid of log SNR, x / alpha is the same whatever the schedule, prediction and guidance machinery."""
    plain = unlike_schedules()["exploding"]  # alpha = 1
    # an adaptive method ends at the schedule's own cleanest level: it is compared before that, at log SNR 8
    ends = -1 if sampler.evaluations is None else None
    x = BLOBS.sample_at(_even(plain, 10)[0], 6, generator(0, "agreement", 0)).reshape(6, *SPEC.shape)
    for guided in (False, True):
        want = _walk(sampler, _closed_form(guided), x, _even(plain, 10)[:ends], plain)
        for name, schedule in unlike_schedules().items():
            levels, level_of = _even(schedule, 10)[:ends], LevelOfLabel(schedule)
            for prediction in PREDICTIONS:
                denoise = _assembled(schedule, prediction, guided, level_of)
                got = _walk(sampler, denoise, levels[0].alpha * x, levels, schedule) / levels[-1].alpha
                off = float((got - want).abs().max())
                require(
                    off < ROUNDING,
                    f"{_name(sampler)} on schedule {name}, prediction {prediction}, guidance {guided}: {off} away from"
                    " the closed form; a sampler may use of its levels nothing but alpha and sigma, and of x / alpha"
                    " nothing that depends on alpha",
                )


def check_short_grids(sampler: Sampler[Any]) -> None:
    """One and two steps work, from the schedule's noisiest level on, and leave no noise in the image.

    Where the data are one point, every denoised image is that point, and so must the sample be.
    """
    for name, schedule in unlike_schedules().items():
        for grid in (uniform, log_snr):
            for steps in (1, 2):
                levels = levels_of(schedule, grid(schedule, steps))
                x = levels[0].sigma * _noise(0, 4)
                where = f"{_name(sampler)}, {steps} steps of grid {grid.__name__} on schedule {name}"
                some = _walk(sampler, BLOBS.denoise, x, levels, schedule)
                require(some.isfinite().all(), f"{where}: not finite")
                off = float((_walk(sampler, POINT.denoise, x, levels, schedule) - POINT.means).abs().max())
                require(off < ROUNDING, f"{where}: noise of size {off} is left at sigma = 0")


def check_batches(sampler: Sampler[Any]) -> None:
    """Image k is the same in a batch of six as in batches of one, two and three."""
    schedule = unlike_schedules()["arc"]
    levels = _even(schedule, 8)
    x = levels[0].sigma * _noise(1, 6)
    whole = _walk(sampler, BLOBS.denoise, x, levels, schedule)
    parts = [_walk(sampler, BLOBS.denoise, x[a:b], levels, schedule, first=a) for a, b in ((0, 1), (1, 3), (3, 6))]
    off = float((torch.cat(parts) - whole).abs().max())
    require(off < ROUNDING, f"{_name(sampler)}: an image changes by {off} with the batch that it is made in")


def check_memory(sampler: Sampler[Any]) -> None:
    """Nothing of one walk is left for the next, and x is not written to: what is remembered is in the state."""
    schedule = unlike_schedules()["table"]
    x = _noise(2, 3)
    kept = x.clone()
    first = _walk(sampler, BLOBS.denoise, x, _even(schedule, 7), schedule)
    require(torch.equal(x, kept), f"{_name(sampler)} writes into the x that it is given")
    _walk(sampler, POINT.denoise, x + 1, _even(schedule, 5), schedule)
    again = _walk(sampler, BLOBS.denoise, x, _even(schedule, 7), schedule)
    require(torch.equal(first, again), f"{_name(sampler)} remembers something in itself; put it into the state")


def check_dtype(sampler: Sampler[Any]) -> None:
    """Float32 stays float32 at every step, and comes near the float64 result."""
    schedule = unlike_schedules()["arc"]
    levels = _even(schedule, 8)
    x = levels[0].sigma * _noise(3, 4)
    seen: list[torch.dtype] = []

    def watched(x: Tensor, level: Level) -> Tensor:
        seen.append(x.dtype)
        return BLOBS.denoise(x, level)

    single = _walk(sampler, watched, x.float(), levels, schedule)
    others = {*seen, single.dtype} - {torch.float32}
    require(
        not others,
        f"{_name(sampler)} turns float32 into {others}; levels are 0-d and promote"
        " nothing, so some tensor of its own must have a shape",
    )
    off = float((single - _walk(sampler, BLOBS.denoise, x, levels, schedule)).abs().max())
    require(off < 1e-3, f"{_name(sampler)}: float32 is {off} away from float64")


def check_evaluations(sampler: Sampler[Any]) -> None:
    """A step asks the network as often as declared; the last, to sigma = 0, at most as often and at least once."""
    most = math.inf if sampler.evaluations is None else sampler.evaluations
    schedule = unlike_schedules()["table"]
    levels = _even(schedule, 6)
    calls, reached = [0], [0]

    def counted(x: Tensor, level: Level) -> Tensor:
        there = bool((level.sigma > 0).all())
        require(there, f"{_name(sampler)} asks for the denoised image at sigma = 0, where there is no noise")
        calls[0] += 1
        return BLOBS.denoise(x, level)

    x = _noise(4, 2)
    streams = ImageStreams(0, range(len(x)), tuple(x.shape[1:]), dtype=x.dtype)
    context = Context(schedule, streams.randn)
    sample(sampler, counted, x, levels, context, watch=lambda i, x, level: reached.append(calls[0]))
    steps = torch.tensor(reached).diff().tolist()
    fits = all(n == most or (most == math.inf and n > 0) for n in steps[:-1]) and 1 <= steps[-1] <= most
    require(fits, f"{_name(sampler)} declares {sampler.evaluations} evaluations a step; the steps took {steps}")


def check_randomness(sampler: Sampler[Any]) -> None:
    """A stochastic sampler asks for noise and uses it; any other never asks. Neither touches torch's own generator."""
    schedule = unlike_schedules()["table"]
    levels = _even(schedule, 6)
    x = levels[0].sigma * _noise(5, 3)
    asked = [0]

    def randn() -> Tensor:
        asked[0] += 1
        return _noise(100 + asked[0], 3)

    before = torch.random.get_rng_state()
    one = sample(sampler, BLOBS.denoise, x, levels, Context(schedule, randn))
    require(torch.equal(before, torch.random.get_rng_state()), f"{_name(sampler)} draws from torch's own generator")
    require(
        (asked[0] > 0) == sampler.stochastic,
        f"{_name(sampler)} declares stochastic = {sampler.stochastic}, but asked for noise {asked[0]} times",
    )
    two = sample(sampler, BLOBS.denoise, x, levels, Context(schedule, randn))
    require(torch.equal(one, two) != sampler.stochastic, f"{_name(sampler)} asks for noise and does not use it")


def check_gradients(sampler: Sampler[Any]) -> None:
    """A gradient flows from the sample back to its noise."""
    schedule = unlike_schedules()["arc"]
    levels = _even(schedule, 3)
    x = (levels[0].sigma * _noise(6, 2)).requires_grad_()
    with torch.enable_grad():
        end = _walk(sampler, BLOBS.denoise, x, levels, schedule).sum()
        (grad,) = torch.autograd.grad(end, x) if end.requires_grad else (torch.zeros_like(x),)
    require(
        grad.isfinite().all() and grad.any(),
        f"{_name(sampler)}: no gradient, or none that is finite, comes back through the steps",
    )


def check_moments(sampler: Sampler[Any]) -> None:
    """With many steps, samples have the mean and the covariance of the data."""
    schedule = unlike_schedules()["table"]
    levels = _even(schedule, MOMENT_STEPS if sampler.evaluations else 10)  # an adaptive method adds its own
    random = generator(0, "moments", 0)
    x = BLOBS.sample_at(levels[0], MOMENT_POINTS, random)
    noise = partial(torch.randn, x.shape, generator=random, dtype=x.dtype)
    got = sample(sampler, BLOBS.denoise, x, levels, Context(schedule, noise))
    want = BLOBS.covariance()
    spread = float(want.diagonal().mean())
    off = float((got.mean(0) - BLOBS.mean()).abs().max()) / spread**0.5
    require(off < MOMENT_ERROR, f"{_name(sampler)}: the samples' mean is {off:.3f} standard deviations off")
    off = float((got.T.cov() - want).abs().max()) / spread
    require(off < MOMENT_ERROR, f"{_name(sampler)}: the samples' covariance is {off:.1%} of the variance off")


SAMPLER_CHECKS: tuple[Callable[[Sampler[Any]], None], ...] = (
    check_order,
    check_agreement,
    check_short_grids,
    check_batches,
    check_memory,
    check_dtype,
    check_evaluations,
    check_randomness,
    check_gradients,
    check_moments,
    check_convergence,
)


def _name(sampler: Sampler[Any]) -> str:
    return type(sampler).__name__


def _noise(position: int, images: int) -> Tensor:
    """Standard normal numbers, (images, 2) float64."""
    return torch.randn((images, 2), generator=generator(0, "kit", position), dtype=torch.float64)


def _even(schedule: NoiseSchedule, steps: int) -> list[Level]:
    """Steps even in log SNR from -8 to 8, and one more to the clean image."""
    return levels_of(schedule, schedule.t_at(torch.linspace(-8, 8, steps, dtype=torch.float64)))


def _walk(
    sampler: Sampler[Any], denoise: Denoise, x: Tensor, levels: list[Level], schedule: NoiseSchedule, first: int = 0
) -> Tensor:
    """The sample from x, image i having the noise of number ``first + i``."""
    streams = ImageStreams(0, range(first, first + len(x)), tuple(x.shape[1:]), dtype=torch.float64)
    return sample(sampler, denoise, x, levels, Context(schedule, lambda: streams.randn().to(x.dtype)))


def _assembled(schedule: NoiseSchedule, prediction: str, guided: bool, level_of: LevelOfLabel) -> Denoise:
    """The denoiser of a perfect network, put together as for a real one."""
    predict = PREDICTIONS[prediction]
    network = BLOBS.as_network(schedule, predict, 0.5, SHIFTS, level_of)
    cond = labels_cond([0, 1, 0, 1, 1, 0], SPEC)
    return bind(Denoiser(network, schedule, predict, 0.5), cond, SPEC, CFG(scale=SCALE) if guided else None)


def _closed_form(guided: bool) -> Denoise:
    """The same denoiser without network, label, prediction or `bind`."""
    moved = torch.tensor(SHIFTS, dtype=torch.float64)[[0, 1, 0, 1, 1, 0]].reshape(6, *SPEC.shape)

    def denoise(x: Tensor, level: Level) -> Tensor:
        conditional = moved + BLOBS.denoise(x - level.alpha * moved, level)
        return SCALE * conditional - (SCALE - 1) * BLOBS.denoise(x, level) if guided else conditional

    return denoise
