"""The first samplers against their papers' formulas, and the one loop; test_contracts.py holds all to the kit."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dmf.core import (
    Cond,
    Context,
    Denoise,
    Denoiser,
    Level,
    NoiseSchedule,
    Sampler,
    bind,
    generator,
    grids,
    levels_of,
    predictions,
    sample,
)
from dmf.core.spec import DataSpec
from dmf.registry import build, parts
from dmf.testing import Exploding, Straight
from dmf.testing.samplers import BLOBS

Array = np.ndarray[Any, np.dtype[np.float64]]
SCHEDULES: dict[str, NoiseSchedule] = {p.name: build("schedule", p.name) for p in parts("schedule")}
ORDERS = {"ddim": 1, "euler": 1, "heun": 2}
T = 1000


def test_orders() -> None:
    """Written here too, so that no declaration can lower the bar: the kit measures what is declared."""
    assert {name: build("sampler", name).order for name in ORDERS} == ORDERS


def test_every_built_in_sampler_has_an_order_or_noise_or_chooses_its_steps() -> None:
    for part in parts("sampler"):
        one = build("sampler", part.name)
        assert part.distribution != "dmf" or (one.order is None) == (one.stochastic or one.evaluations is None)


# -- the papers' own formulas, in numpy, from the betas ---------------------------------------------------------------

BETA: Array = np.array([0.0, *np.linspace(1e-4, 0.02, T)], dtype=np.float64)  # beta_0 is not used
ALPHA_BAR: Array = np.cumprod(1 - BETA, dtype=np.float64)  # alpha_bar_0 = 1
LINEAR = SCHEDULES["linear"]


def level(i: int) -> Level:
    """Step i of the table; 0 is the image."""
    return LINEAR.at(torch.tensor(i / T, dtype=torch.float64)) if i else LINEAR.clean


def guess(x: Any) -> Any:
    """Some x0_hat; that of no data set, and never 0."""
    return np.tanh(1.3 * x) + 0.2 if isinstance(x, np.ndarray) else torch.tanh(1.3 * x) + 0.2


def drawn(*shape: int, of: str = "x") -> Array:
    numbers: Array = torch.randn(shape, generator=generator(0, of, 0), dtype=torch.float64).numpy()
    return numbers


def one_step(sampler: Sampler[Any], x: Array, i: int, j: int, z: Array) -> Array:
    context = Context(LINEAR, lambda: torch.from_numpy(z), [level(i), level(j)])
    out: Array = sampler.step(lambda x, at: guess(x), torch.from_numpy(x), level(i), level(j), None, context)[0].numpy()
    return out


def ddpm_posterior(x: Array, x0: Array, t: int, variance: str) -> tuple[Array, float]:
    """Ho et al. 2020, equations 6 and 7, section 3.2."""
    ab, ab_prev, beta = ALPHA_BAR[t], ALPHA_BAR[t - 1], BETA[t]
    mean = np.sqrt(ab_prev) * beta / (1 - ab) * x0 + np.sqrt(1 - beta) * (1 - ab_prev) / (1 - ab) * x
    return mean, float(beta if variance == "large" else (1 - ab_prev) / (1 - ab) * beta)


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("t", [1000, 999, 731, 250, 10, 2, 1])
def test_ddpm_step_is_equations_6_and_7(variance: str, t: int) -> None:
    x, z = drawn(5, 3), drawn(5, 3, of="z")
    mean, var = ddpm_posterior(x, guess(x), t, variance)
    want = mean + (math.sqrt(var) * z if t > 1 else 0)  # algorithm 2, line 3: z = 0 in the last step
    got = one_step(build("sampler", "ddpm", variance=variance), x, t, t - 1, z)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-10)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_walk_is_algorithm_2(variance: str) -> None:
    """All 1000 steps, in the form of algorithm 2, line 4, with the noise as what the network says, labels and all."""
    x, z = drawn(2, 1, 3), drawn(T, 2, 1, 3, of="z")
    labels: list[float] = []

    def network(x: Tensor, noise: Tensor, cond: Cond) -> Tensor:
        labels.append(float(noise[0]))
        return torch.sin(x)

    queue = iter(torch.from_numpy(z))
    denoise = bind(Denoiser(network, LINEAR, predictions.epsilon), {}, DataSpec((1, 3)))
    levels = levels_of(LINEAR, grids.uniform(LINEAR, T))
    ddpm = build("sampler", "ddpm", variance=variance)
    got = sample(ddpm, denoise, torch.from_numpy(x), levels, Context(LINEAR, lambda: next(queue)))
    for n, t in enumerate(range(T, 0, -1)):
        beta, ab = BETA[t], ALPHA_BAR[t]
        x = 1 / np.sqrt(1 - beta) * (x - beta / np.sqrt(1 - ab) * np.sin(x))
        if t > 1:
            x = x + np.sqrt(beta if variance == "large" else (1 - ALPHA_BAR[t - 1]) / (1 - ab) * beta) * z[n]
    np.testing.assert_allclose(got.numpy(), x, rtol=1e-8, atol=1e-8)
    assert labels == pytest.approx(list(range(T - 1, -1, -1)), abs=1e-9), "step i tells the network i - 1"


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("t", "s"), [(1000, 980), (1000, 1), (500, 499), (120, 60), (2, 1), (7, 0), (1, 0)])
def test_ddim_step_is_equations_12_and_16(eta: float, t: int, s: int) -> None:
    x, z = drawn(5, 3), drawn(5, 3, of="z")
    ab_t, ab_s = ALPHA_BAR[t], ALPHA_BAR[s]
    eps = (x - np.sqrt(ab_t) * guess(x)) / np.sqrt(1 - ab_t)
    sigma = eta * np.sqrt((1 - ab_s) / (1 - ab_t)) * np.sqrt(1 - ab_t / ab_s)  # equation 16; 0 where s = 0
    want = np.sqrt(ab_s) * ((x - np.sqrt(1 - ab_t) * eps) / np.sqrt(ab_t)) + np.sqrt(1 - ab_s - sigma**2) * eps
    got = one_step(build("sampler", "ddim", eta=eta), x, t, s, z)
    np.testing.assert_allclose(got, want + sigma * z, rtol=0, atol=1e-10)


def test_ddim_at_eta_1_is_ddpm() -> None:
    x, z = drawn(5, 3), drawn(5, 3, of="z")
    for t in (1000, 300, 2, 1):
        pair = [one_step(build("sampler", n, **o), x, t, t - 1, z) for n, o in (("ddim", {"eta": 1.0}), ("ddpm", {}))]
        np.testing.assert_allclose(pair[0], pair[1], rtol=0, atol=1e-10)


def walk(sampler: Sampler[Any], x: Tensor, schedule: NoiseSchedule, levels: Sequence[Level]) -> Tensor:
    noise = partial(torch.randn, x.shape, generator=generator(0, "walk", 0), dtype=torch.float64)
    return sample(sampler, BLOBS.denoise, x, levels, Context(schedule, noise))


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("grid", [grids.uniform, grids.karras, grids.log_snr], ids=lambda g: g.__name__)
def test_euler_without_churn_is_ddim(schedule: NoiseSchedule, grid: grids.Grid) -> None:
    levels = levels_of(schedule, grid(schedule, 12))
    x = levels[0].sigma * torch.from_numpy(drawn(4, 2))
    euler, ddim = (walk(build("sampler", name), x, schedule, levels) for name in ("euler", "ddim"))
    torch.testing.assert_close(euler, ddim, rtol=0, atol=1e-12)


def algorithm_2(x: Array, sigmas: Array, z: Array, churn: tuple[float, float, float, float], heun: bool) -> Array:
    """Karras et al. 2022, algorithm 2, line by line; without lines 9 to 11 it is Euler's method."""
    s_churn, s_tmin, s_tmax, s_noise = churn
    steps = len(sigmas) - 1
    draws = iter(z)

    def d(x: Array, sigma: float) -> Array:
        at = Level(*(torch.tensor(v, dtype=torch.float64) for v in (sigma, 1.0, sigma)))
        slope: Array = (x - BLOBS.denoise(torch.from_numpy(x), at).numpy()) / sigma
        return slope

    for i in range(steps):
        gamma = min(s_churn / steps, math.sqrt(2) - 1) if s_tmin <= sigmas[i] <= s_tmax else 0.0
        t_hat = sigmas[i] * (1 + gamma)
        if gamma > 0:
            x = x + math.sqrt(t_hat**2 - sigmas[i] ** 2) * s_noise * next(draws)
        slope = d(x, t_hat)
        there = x + (sigmas[i + 1] - t_hat) * slope
        if heun and sigmas[i + 1] != 0:
            there = x + (sigmas[i + 1] - t_hat) * (slope + d(there, sigmas[i + 1])) / 2
        x = there
    return x


@pytest.mark.parametrize("name", ["euler", "heun"])
@pytest.mark.parametrize("churn", [(0, 0, 99, 1), (4, 0, 99, 1), (40, 0.05, 49, 1.007), (1.5, 0.3, 10, 0.9)])
def test_churn_is_algorithm_2(name: str, churn: tuple[float, float, float, float]) -> None:
    rho, steps = 7.0, 9
    ramp = np.arange(steps) / (steps - 1)
    sigmas = (50 ** (1 / rho) + ramp * (0.02 ** (1 / rho) - 50 ** (1 / rho))) ** rho  # equation 5
    z = drawn(steps, 4, 2, of="z")
    want = algorithm_2(sigmas[0] * drawn(4, 2), np.append(sigmas, 0.0), z, churn, name == "heun")
    options = dict(zip(("churn", "churn_min", "churn_max", "churn_noise"), map(float, churn), strict=True))
    queue = iter(torch.from_numpy(z))
    for schedule in (Exploding(), Straight()):
        times = grids.karras(schedule, steps, rho=rho, sigma_min=0.02, sigma_max=50.0)
        levels, queue = levels_of(schedule, times), iter(torch.from_numpy(z))
        x = levels[0].sigma * torch.from_numpy(drawn(4, 2))
        context = Context(schedule, lambda queue=queue: next(queue))  # type: ignore[misc]
        got = sample(build("sampler", name, **options), BLOBS.denoise, x, levels, context)
        np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=1e-10)


@pytest.mark.parametrize("schedule", [Exploding(), Straight(), SCHEDULES["linear"]], ids=lambda s: type(s).__name__)
def test_churn_stops_at_the_noisiest_level_of_the_schedule(schedule: NoiseSchedule) -> None:
    """Where t_at would answer, as on the straight path, and where it would not."""
    noisiest = schedule.at(schedule.ends()[0])
    there = schedule.at(schedule.t_at(0.0))
    levels = levels_of(schedule, torch.stack([noisiest.t, there.t]))
    asked: list[float] = []

    def denoise(x: Tensor, at: Level) -> Tensor:
        asked.append(float(at.ratio))
        return torch.zeros_like(x)

    x = torch.ones(1, 2, dtype=torch.float64)
    sample(build("sampler", "euler", churn=100.0), denoise, x, levels, Context(schedule, lambda: torch.ones_like(x)))
    assert asked == pytest.approx([float(noisiest.ratio), math.sqrt(2)], rel=1e-9)


# -- the one loop ------------------------------------------------------------------------------------------------------


def test_a_walk_needs_two_levels_and_can_be_watched() -> None:
    schedule = Straight()
    levels = levels_of(schedule, grids.uniform(schedule, 3))
    x = levels[0].sigma * torch.from_numpy(drawn(2, 2))
    seen: list[tuple[int, Tensor, Level]] = []
    context = Context(schedule, lambda: x)
    out = sample(build("sampler", "ddim"), BLOBS.denoise, x, levels, context, lambda *now: seen.append(now))
    assert [(i, at) for i, _, at in seen] == list(enumerate(levels[1:])) and torch.equal(seen[-1][1], out)
    with pytest.raises(ValueError, match="at least two levels, from and to; got 1"):
        sample(build("sampler", "ddim"), BLOBS.denoise, x, levels[:1], context)


def test_a_step_is_told_its_place_in_the_grid_and_gets_back_its_state() -> None:
    class Counting(Sampler[int]):
        def init(self, x: Tensor) -> int:
            return 10

        def step(
            self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: int | None, context: Context
        ) -> tuple[Tensor, int]:
            assert state is not None and context.levels is levels and context.schedule is schedule
            assert now is levels[context.index] and then is levels[context.index + 1]
            told.append((context.index, state))
            return x, state + 1

    schedule, told = Straight(), list[tuple[int, int]]()
    levels = levels_of(schedule, grids.uniform(schedule, 4))
    x = torch.zeros(1, 2)
    sample(Counting(), BLOBS.denoise, x, levels, Context(schedule, lambda: x))
    assert told == [(0, 10), (1, 11), (2, 12), (3, 13)]


@pytest.mark.parametrize(("dtype", "left"), [(torch.float32, 3e-6), (torch.bfloat16, 0.1)])
def test_heun_keeps_its_digits_over_long_steps(dtype: torch.dtype, left: float) -> None:
    """Its correction is a difference of two images, never of two noises: those would lose a hundred times as much."""
    schedule = SCHEDULES["flow"]
    levels = levels_of(schedule, grids.arctan(schedule, 8))
    noise = torch.randn((16, 2), generator=generator(0, "noise", 0)).bfloat16()  # the same in any precision

    def end(dtype: torch.dtype) -> Tensor:
        x = levels[0].sigma * noise.to(dtype)
        return sample(build("sampler", "heun"), BLOBS.denoise, x, levels, Context(schedule, lambda: x)).double()

    assert float((end(dtype) - end(torch.float64)).abs().max()) < left
