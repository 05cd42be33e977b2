"""The single-step samplers against their papers' formulas and against each other."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dmf.core import Context, Level, Sampler, generator, grids, levels_of, sample
from dmf.registry import PartError, build
from dmf.testing import order_of, unlike_schedules
from dmf.testing.moments import DATA, exact_moments
from dmf.testing.samplers import BLOBS

Array = np.ndarray[Any, np.dtype[np.float64]]
LINEAR = build("schedule", "linear")
ARC = unlike_schedules()["arc"]
T = 1000
ALPHA_BAR: Array = np.cumprod(np.array([1.0, *(1 - np.linspace(1e-4, 0.02, T))], dtype=np.float64))
STEPS = [(1000, 900), (1000, 1), (600, 420), (300, 299), (90, 20), (3, 1)]  # from i to j of the table


def drawn(*shape: int, of: str = "x") -> Array:
    numbers: Array = torch.randn(shape, generator=generator(0, of, 0), dtype=torch.float64).numpy()
    return numbers


def level(i: int) -> Level:
    return LINEAR.at(i / T) if i else LINEAR.clean


def guess(x: Any, lam: Any) -> Any:
    """Some x0_hat that depends on the level too, through lambda = ln(alpha / sigma)."""
    if isinstance(x, np.ndarray):
        return np.tanh(1.3 * x + 0.2 * lam) + 0.2 * np.cos(lam)
    return torch.tanh(1.3 * x + 0.2 * lam) + 0.2 * torch.cos(lam)


def denoise(x: Tensor, at: Level) -> Tensor:
    return guess(x, at.half_log_snr)


def one_step(sampler: Sampler[Any], x: Array, i: int, j: int, z: Sequence[Array] = ()) -> Array:
    draws = iter(z)
    context = Context(LINEAR, lambda: torch.from_numpy(next(draws)), [level(i), level(j)])
    out: Array = sampler.step(denoise, torch.from_numpy(x), level(i), level(j), None, context)[0].numpy()
    assert next(draws, None) is None, "fewer draws than expected"
    return out


class Point:
    """Alpha, sigma, lambda and r of a level of the table, from its betas alone."""

    def __init__(self, lam: float) -> None:
        self.lam, self.r = lam, math.exp(-lam)
        self.alpha, self.sigma = 1 / math.sqrt(1 + self.r**2), self.r / math.sqrt(1 + self.r**2)

    @classmethod
    def step(cls, i: int) -> "Point":
        return cls(0.5 * math.log(ALPHA_BAR[i] / (1 - ALPHA_BAR[i])))

    def towards(self, other: "Point", fraction: float) -> "Point":
        return Point(self.lam + fraction * (other.lam - self.lam))

    def eps(self, x: Array) -> Array:
        noise: Array = (x - self.alpha * guess(x, self.lam)) / self.sigma
        return noise


# -- the papers' formulas, in numpy -----------------------------------------------------------------------------------


def dpm_solver_2(x: Array, s: Point, t: Point, r1: float) -> Array:
    """Lu et al. 2022, the general version of algorithm 1, with the noise."""
    m, h = s.towards(t, r1), t.lam - s.lam
    u = m.alpha / s.alpha * x - m.sigma * (math.exp(r1 * h) - 1) * s.eps(x)
    linear = t.alpha / s.alpha * x - t.sigma * (math.exp(h) - 1) * s.eps(x)
    return linear - t.sigma / (2 * r1) * (math.exp(h) - 1) * (m.eps(u) - s.eps(x))


def dpmpp_2s(x: Array, s: Point, t: Point, r1: float) -> Array:
    """Lu et al. 2022b, algorithm 1, lines 4 to 6."""
    m, h = s.towards(t, r1), t.lam - s.lam
    x0 = guess(x, s.lam)
    u = m.sigma / s.sigma * x - m.alpha * (math.exp(-r1 * h) - 1) * x0
    d = (1 - 1 / (2 * r1)) * x0 + 1 / (2 * r1) * guess(u, m.lam)
    stepped: Array = t.sigma / s.sigma * x - t.alpha * (math.exp(-h) - 1) * d
    return stepped


TWO_STAGES = {"dpm_solver_2": dpm_solver_2, "dpmpp_2s": dpmpp_2s}


@pytest.mark.parametrize("name", TWO_STAGES)
@pytest.mark.parametrize("r1", [0.3, 0.5, 1.0])
@pytest.mark.parametrize(("i", "j"), STEPS)
def test_two_stage_steps_are_the_papers(name: str, r1: float, i: int, j: int) -> None:
    x = drawn(5, 3)
    want = TWO_STAGES[name](x, Point.step(i), Point.step(j), r1)
    scale = max(1.0, float(np.abs(want).max()))  # on noise, one step over all levels gives thousands
    np.testing.assert_allclose(one_step(build("sampler", name, r1=r1), x, i, j), want, rtol=0, atol=1e-9 * scale)


def test_dpm_solver_2_at_one_half_is_algorithm_1() -> None:
    """Without its correction term: the last line has the noise of the middle alone."""
    x, s, t = drawn(5, 3), Point.step(600), Point.step(420)
    m, h = s.towards(t, 0.5), t.lam - s.lam
    u = m.alpha / s.alpha * x - m.sigma * (math.exp(h / 2) - 1) * s.eps(x)
    want = t.alpha / s.alpha * x - t.sigma * (math.exp(h) - 1) * m.eps(u)
    np.testing.assert_allclose(one_step(build("sampler", "dpm_solver_2"), x, 600, 420), want, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["dpm_solver_2", "dpmpp_2s", "dpmpp_sde", "euler_ancestral"])
def test_the_last_step_is_the_denoised_image(name: str) -> None:
    x = drawn(5, 3)
    got = one_step(build("sampler", name), x, 40, 0)
    np.testing.assert_allclose(got, guess(x, Point.step(40).lam), rtol=0, atol=1e-12)


@pytest.mark.parametrize("r1", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("name", TWO_STAGES)
def test_two_stages_have_order_2(name: str, r1: float) -> None:
    sampler = build("sampler", name, r1=r1)
    assert sampler.order == 2 and sampler.evaluations == 2
    assert abs(order_of(sampler, BLOBS, ARC) - 2) < 0.15


@pytest.mark.parametrize("r1", [0.0, -0.5, 1.5])
def test_a_second_stage_outside_the_step_is_refused(r1: float) -> None:
    with pytest.raises(PartError, match="r1"):
        build("sampler", "dpmpp_2s", r1=r1)


# -- ancestral --------------------------------------------------------------------------------------------------------


def ancestral(x: Array, s: Point, t: Point, eta: float, s_noise: float, z: Array) -> Array:
    """k-diffusion's get_ancestral_step and sample_euler_ancestral, of y = x / alpha with sigma = r."""
    up = min(t.r, eta * math.sqrt(t.r**2 * (s.r**2 - t.r**2) / s.r**2))
    down = math.sqrt(t.r**2 - up**2)
    y, x0 = x / s.alpha, guess(x, s.lam)
    y = y + (y - x0) / s.r * (down - s.r) + z * s_noise * up
    return np.asarray(t.alpha * y)


@pytest.mark.parametrize("eta", [0.3, 1.0, 1.4, 9.0])
@pytest.mark.parametrize(("i", "j"), STEPS)
def test_euler_ancestral_is_the_formula(eta: float, i: int, j: int) -> None:
    x, z = drawn(5, 3), drawn(5, 3, of="z")
    got = one_step(build("sampler", "euler_ancestral", eta=eta, s_noise=1.1), x, i, j, [z])
    want = ancestral(x, Point.step(i), Point.step(j), eta, 1.1, z)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-8)  # the formula's own digits: 160^2 beside 159^2


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("schedule", unlike_schedules())
def test_up_to_eta_1_euler_ancestral_is_ddim(eta: float, schedule: str) -> None:
    path = unlike_schedules()[schedule]
    levels = levels_of(path, grids.karras(path, 12))
    x = levels[0].sigma * torch.from_numpy(drawn(4, 2))
    walks = []
    for name in ("ddim", "euler_ancestral"):
        random = generator(0, "walk", 0)
        context = Context(path, lambda random=random: torch.randn(x.shape, generator=random, dtype=x.dtype))  # type: ignore[misc]
        walks.append(sample(build("sampler", name, eta=eta), BLOBS.denoise, x, levels, context))
    assert torch.equal(*walks)


def test_euler_ancestral_without_noise_is_euler_and_says_so() -> None:
    none = build("sampler", "euler_ancestral", eta=0.0)
    assert none.order == 1 and not none.stochastic
    assert not build("sampler", "euler_ancestral", s_noise=0.0).stochastic
    x = drawn(5, 3)
    for i, j in [*STEPS, (9, 0)]:
        np.testing.assert_allclose(
            one_step(none, x, i, j), one_step(build("sampler", "euler"), x, i, j), rtol=0, atol=1e-12
        )


# -- the SDE ----------------------------------------------------------------------------------------------------------


def dpmpp_sde(x: Array, s: Point, t: Point, z: Array, w: Array) -> Array:
    """k-diffusion's sample_dpmpp_sde, eta = 1, of y = x / alpha with sigma = r; z, w the noise of its two stages."""

    def half(y: Array, x0: Array, to: Point, noise: Array) -> Array:
        up = math.sqrt(to.r**2 * (s.r**2 - to.r**2) / s.r**2)
        down = -math.log(math.sqrt(to.r**2 - up**2))
        return np.asarray(math.exp(-down) / s.r * y - math.expm1(s.lam - down) * x0 + noise * up)

    m, y = s.towards(t, 0.5), x / s.alpha
    middle = half(y, guess(x, s.lam), m, z)
    return t.alpha * half(y, guess(m.alpha * middle, m.lam), t, w)


def noise_of_both_halves(s: Point, t: Point, z1: Array, z2: Array) -> Array:
    """The standard normal of the whole step, where z1 and z2 are those of its halves: one path of the SDE."""
    m = s.towards(t, 0.5)
    first = t.r / m.r * math.sqrt(1 - (m.r / s.r) ** 2) * z1 + math.sqrt(1 - (t.r / m.r) ** 2) * z2
    return np.asarray(first / math.sqrt(1 - (t.r / s.r) ** 2))


@pytest.mark.parametrize(("i", "j"), STEPS)
def test_dpmpp_sde_is_the_formula_with_the_noise_of_one_path(i: int, j: int) -> None:
    x, z1, z2 = drawn(5, 3), drawn(5, 3, of="z1"), drawn(5, 3, of="z2")
    s, t = Point.step(i), Point.step(j)
    want = dpmpp_sde(x, s, t, z1, noise_of_both_halves(s, t, z1, z2))
    np.testing.assert_allclose(one_step(build("sampler", "dpmpp_sde"), x, i, j, [z1, z2]), want, rtol=0, atol=1e-8)


def test_dpmpp_sde_without_noise_is_dpmpp_2s() -> None:
    x, none = drawn(5, 3), build("sampler", "dpmpp_sde", eta=0.0)
    assert none.order == 2 and not none.stochastic
    for i, j in [*STEPS, (9, 0)]:
        np.testing.assert_allclose(
            one_step(none, x, i, j), one_step(build("sampler", "dpmpp_2s"), x, i, j), rtol=0, atol=1e-10
        )


@pytest.mark.parametrize("eta", [0.4, 1.0, 2.5])
def test_the_noise_of_a_step_is_that_of_the_sde(eta: float) -> None:
    """Against the SDE walked in 4000 small steps: what its Wiener path leaves at the middle and at the end."""
    s, t, count = 20.0, 0.3, 4000
    r = np.exp(np.linspace(math.log(s), math.log(t), 2 * count + 1))
    # dy = (1 + eta) y / r dr + sqrt(2 eta r) dw, r falling: how var(y_m), var(y_t) and cov(y_m, y_t) go, from y_s = 0
    variance, covariance, at_middle = 0.0, 0.0, 0.0
    for k in range(2 * count):
        kept = 1 + (1 + eta) * (r[k + 1] - r[k]) / r[k]
        middle = (r[k] + r[k + 1]) / 2
        variance = kept**2 * variance + 2 * eta * middle * (r[k] - r[k + 1])
        covariance *= kept
        if k == count - 1:
            at_middle = covariance = variance
    asked: list[Tensor] = []

    def flat(x: Tensor, at: Level) -> Tensor:
        asked.append(x)
        return torch.zeros_like(x)

    path = unlike_schedules()["exploding"]
    draws = iter(torch.eye(2, dtype=torch.float64))  # image 0 has the first draw's response, image 1 the second's
    now, then = (path.at(v) for v in (s, t))
    end, _ = build("sampler", "dpmpp_sde", eta=eta).step(
        flat, torch.zeros(2, dtype=torch.float64), now, then, None, Context(path, lambda: next(draws))
    )
    got = (asked[1].square().sum(), end.square().sum(), (asked[1] * end).sum())
    assert [float(v) for v in got] == pytest.approx([at_middle, variance, covariance], rel=5e-3)


@pytest.mark.parametrize("eta", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(("name", "order"), [("euler_ancestral", 1), ("dpmpp_sde", 2)])
def test_any_amount_of_noise_leads_to_the_data(name: str, order: int, eta: float) -> None:
    """Twice the steps, half the error of the samples' covariance; a quarter for the two stages."""
    sampler = build("sampler", name, eta=eta)
    moments = [exact_moments(sampler, DATA, steps) for steps in (120, 240)]
    coarse, fine = (float((covariance - DATA.covariance()).abs().max()) for _, covariance in moments)
    assert abs(math.log2(coarse / fine) - order) < 0.15
    assert float((moments[1][0] - DATA.mean()).abs().max()) < 1e-4
