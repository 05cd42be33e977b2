"""Every registered sampler against the contract kit, and the built-in ones against their papers' formulas."""

import math
from collections.abc import Callable, Sequence
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
from dmf.testing import SAMPLER_CHECKS, Exploding, Gaussian, Straight, check_agreement, order_of, unlike_schedules
from dmf.testing.samplers import BLOBS

Array = np.ndarray[Any, np.dtype[np.float64]]
SCHEDULES: dict[str, NoiseSchedule] = {p.name: build("schedule", p.name) for p in parts("schedule")}
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    *((p.name, {}) for p in parts("sampler")),
    ("ddim", {"eta": 0.5}),
    ("ddim", {"eta": 1.0}),
    ("ddpm", {"variance": "large"}),
    ("euler", {"churn": 10.0}),
    ("heun", {"churn": 10.0, "churn_min": 0.05, "churn_max": 50.0, "churn_noise": 1.003}),
]
ORDERS = {"ddim": 1, "euler": 1, "heun": 2}
T = 1000


def named(setting: tuple[str, dict[str, Any]]) -> str:
    return "-".join([setting[0], *(f"{k}={v}" for k, v in setting[1].items())])


@pytest.fixture(params=SETTINGS, ids=named)
def sampler(request: pytest.FixtureRequest) -> Sampler[Any]:
    name, options = request.param
    built: Sampler[Any] = build("sampler", name, **options)
    return built


@pytest.mark.parametrize("check", SAMPLER_CHECKS, ids=lambda c: c.__name__)
def test_contract(check: Callable[[Sampler[Any]], None], sampler: Sampler[Any]) -> None:
    if check is check_agreement:
        check_agreement(sampler, SCHEDULES)
    else:
        check(sampler)


@pytest.mark.parametrize(("name", "order"), ORDERS.items())
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_orders(name: str, order: int, schedule: str) -> None:
    """Measured here too, so that no declaration can lower the bar."""
    assert build("sampler", name).order == order
    assert abs(order_of(build("sampler", name), BLOBS, SCHEDULES[schedule]) - order) < 0.15


def test_every_built_in_sampler_has_an_order_or_noise() -> None:
    for name, options in SETTINGS:
        one = build("sampler", name, **options)
        assert (one.order is None) == one.stochastic
    assert {p.name for p in parts("sampler") if p.distribution == "dmf"} == {*ORDERS, "ddpm"}


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


# -- what stochastic samplers converge to, without drawing a single number --------------------------------------------


def exact_moments(sampler: Sampler[Any], data: Gaussian, steps: int) -> tuple[float, float]:
    """Mean and variance of the samples of one-dimensional Gaussian data, exactly.

    There the denoiser is affine, so a sample is c + a x + sum_k b_k z_k: image 0 of a batch finds c, image 1 a, and
    image 2 + k, to whose k-th draw alone a 1 is given, b_k.
    """
    schedule = unlike_schedules()["arc"]
    times = schedule.t_at(torch.linspace(-10, 14, steps, dtype=torch.float64))
    levels = levels_of(schedule, times)
    count, draws = steps + 2, iter(range(steps))
    start = torch.zeros(count, 1, dtype=torch.float64)
    start[1] = 1

    def randn() -> Tensor:
        z = torch.zeros_like(start)
        z[2 + next(draws)] = 1
        return z

    end = sample(sampler, data.denoise, start, levels, Context(schedule, randn)).flatten()
    c, gains = end[0], end[1:] - end[0]
    first = data.marginal(levels[0])
    mean = c + gains[0] * first.means.flatten()
    variance = (gains[0] * first.std) ** 2 + (gains[1:] ** 2).sum()
    return float(mean), float(variance)


@pytest.mark.parametrize("setting", SETTINGS, ids=named)
def test_samples_converge_to_the_data_in_mean_and_variance(setting: tuple[str, dict[str, Any]]) -> None:
    name, options = setting
    if "churn_noise" in options:  # S_noise beside 1 is a bias on purpose
        options = {**options, "churn_noise": 1.0}
    data = Gaussian([0.7], 0.5)
    coarse, fine = (exact_moments(build("sampler", name, **options), data, n) for n in (100, 400))
    bias, finer = (abs(variance / 0.25 - 1) for _, variance in (coarse, fine))
    assert finer < 0.03 and (finer < 0.35 * bias or finer < 1e-4), (bias, finer)
    assert abs(fine[0] - 0.7) < 1e-3


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


def test_gradients_flow_through_a_walk(sampler: Sampler[Any]) -> None:
    schedule = Straight()
    levels = levels_of(schedule, grids.uniform(schedule, 3))
    x = (levels[0].sigma * torch.from_numpy(drawn(2, 2))).requires_grad_()
    walk(sampler, x, schedule, levels).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and x.grad.isfinite().all() and x.grad.abs().sum() > 0
