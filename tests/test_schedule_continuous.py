"""Schedules in continuous time: each against its paper's formula, and against a table or an integral it must meet."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from dmf.registry import PartError, build
from dmf.testing import check_schedule

T = torch.tensor([0.001, 0.03, 0.2, 0.5, 0.77, 0.95, 0.999], dtype=torch.float64)

AT_THEIR_BOUNDS: list[tuple[str, dict[str, float]]] = [
    *(("flow", {"shift": s}) for s in (0.01, 0.5, 3.0, 100.0)),
    *((name, {"sigma_min": 1e-4, "sigma_max": 1e4}) for name in ("edm", "ve")),
    *((name, {"sigma_min": 9999.0, "sigma_max": 1e4}) for name in ("edm", "ve")),
    ("vp", {"beta_min": 1e-300, "beta_max": 1000.0}),
    ("vp", {"beta_min": 1000.0, "beta_max": 1000.0}),
    ("vp", {"beta_min": 1e-3, "beta_max": 0.01}),
    ("vp", {"beta_min": 0.01, "beta_max": 0.01}),
    *(
        ("sigmoid", {"start": a, "end": b, "tau": tau})
        for a, b in ((-6.0, 6.0), (-6.0, -5.9), (5.9, 6.0), (-6.0, 0.0), (0.0, 6.0), (-6.0, 0.3))
        for tau in (0.1, 1.0, 10.0)
    ),
]


@pytest.mark.parametrize(("name", "options"), AT_THEIR_BOUNDS, ids=[f"{n}-{o}" for n, o in AT_THEIR_BOUNDS])
def test_options_at_their_bounds(name: str, options: dict[str, float]) -> None:
    check_schedule(build("schedule", name, **options))


# vp


@pytest.mark.parametrize(("low", "high"), [(0.1, 20.0), (1.0, 1.0), (0.5, 7.0)])
def test_vp_is_equation_33(low: float, high: float) -> None:
    """alpha = exp(-t^2 (b1 - b0) / 4 - t b0 / 2), sigma^2 = 1 - exp(-t^2 (b1 - b0) / 2 - t b0): Song et al. 2021."""
    vp, t = build("schedule", "vp", beta_min=low, beta_max=high), T.numpy()
    np.testing.assert_allclose(vp.alpha(T), np.exp(-(t**2) * (high - low) / 4 - t * low / 2), rtol=1e-13)
    np.testing.assert_allclose(vp.sigma(T) ** 2, 1 - np.exp(-(t**2) * (high - low) / 2 - t * low), rtol=1e-11)


def test_vp_has_linear_betas() -> None:
    """-d ln alpha^2 / dt = beta(t) = 0.1 + 19.9 t (equation 32); DDPM's table comes near, the finer the nearer."""
    vp, h = build("schedule", "vp"), 1e-6
    beta = -(torch.log(vp.alpha(T + h)) - torch.log(vp.alpha(T - h))) / h
    torch.testing.assert_close(beta, 0.1 + 19.9 * T, rtol=1e-7, atol=1e-7)
    apart = [
        float(
            (build("schedule", "linear", steps=n, low=0.1 / n, high=20 / n).alpha(T[1:]) - vp.alpha(T[1:])).abs().max()
        )
        for n in (500, 1000, 2000)
    ]
    assert apart[0] > 1.8 * apart[1] > 3.2 * apart[2] and apart[2] < 0.002


# ve and edm


def test_ve_is_equation_31() -> None:
    """sigma_i = 0.01 (50 / 0.01)^((i - 1) / (N - 1)), a geometric sequence: Song et al. 2021, appendix C."""
    ve = build("schedule", "ve")
    want = np.geomspace(0.01, 50, 33)
    np.testing.assert_allclose(ve.sigma(torch.linspace(0, 1, 33, dtype=torch.float64)), want, rtol=1e-13)
    assert (ve.alpha(T) == 1).all()
    wide = build("schedule", "ve", sigma_min=0.02, sigma_max=300.0)
    assert float(wide.sigma(torch.tensor(0.5))) == pytest.approx(math.sqrt(0.02 * 300), rel=1e-7)


def test_edm_is_table_1() -> None:
    """sigma(t) = t, s(t) = 1, from 0.002 to 80; c_noise = ln(sigma) / 4, told as 1000 times that."""
    edm = build("schedule", "edm")
    assert (edm.t_min, edm.t_max) == (0.002, 80.0) and edm.ends() == (80.0, 0.002)
    assert torch.equal(edm.sigma(T), T) and torch.equal(edm.alpha(T), torch.ones_like(T))
    narrow = build("schedule", "edm", sigma_min=0.1, sigma_max=3.0)
    assert narrow.ends() == (3.0, 0.1) and float(narrow.t_at(-100.0)) == 3.0


@pytest.mark.parametrize("name", ["edm", "ve"])
def test_exploding_schedules_tell_250_ln_sigma(name: str) -> None:
    schedule = build("schedule", name)
    for sigma in (0.02, 1.0, 30.0):
        level = schedule.at(schedule.t_at(-2 * math.log(sigma)))
        assert float(level.sigma) == pytest.approx(sigma, rel=1e-12)
        assert float(schedule.label(level)) == pytest.approx(250 * math.log(sigma), abs=1e-9)


# sigmoid


def algorithm_1(t: Any, start: float, end: float, tau: float) -> Any:
    """gamma(t) as Chen 2023 writes it, without the clip, in extended precision."""
    t, start, end, tau = (np.longdouble(value) for value in (t, start, end, tau))

    def sigmoid(u: Any) -> Any:
        return 1 / (1 + np.exp(-u))

    v_start, v_end = sigmoid(start / tau), sigmoid(end / tau)
    return (v_end - sigmoid((t * (end - start) + start) / tau)) / (v_end - v_start)


@pytest.mark.parametrize(
    ("start", "end", "tau"), [(-3.0, 3.0, 1.0), (0.0, 3.0, 0.3), (-3.0, 3.0, 1.1), (-6.0, 1.0, 0.5), (5.0, 6.0, 10.0)]
)
def test_sigmoid_is_algorithm_1(start: float, end: float, tau: float) -> None:
    schedule = build("schedule", "sigmoid", start=start, end=end, tau=tau)
    t = torch.cat([torch.tensor([1e-8, 1e-5]), T, torch.tensor([1 - 2.0**-20])]).double()
    gamma = np.array([algorithm_1(x, start, end, tau) for x in t.numpy()])
    np.testing.assert_allclose(schedule.alpha(t) ** 2, gamma.astype(float), rtol=1e-9)
    np.testing.assert_allclose(schedule.sigma(t) ** 2, (1 - gamma).astype(float), rtol=1e-9, atol=1e-19)
    np.testing.assert_allclose(schedule.t_at(schedule.log_snr(t)), t, rtol=1e-12)


def test_sigmoid_of_little_slope_is_straight() -> None:
    """As tau grows gamma becomes 1 - t, Chen's simplest schedule."""
    straight = build("schedule", "sigmoid", start=-0.01, end=0.01, tau=10.0)
    torch.testing.assert_close(straight.alpha(T) ** 2, 1 - T, rtol=1e-6, atol=0)


# cosine_vp


def test_cosine_vp_is_the_cosine_tables_limit() -> None:
    """Without offset and cut the table's entries lie on it: alpha_bar_i = cos^2(i / T pi / 2)."""
    table = build("schedule", "cosine", steps=1000, offset=0.0)
    i = torch.arange(1, 1000, dtype=torch.float64) / 1000
    circle = build("schedule", "cosine_vp")
    torch.testing.assert_close(circle.alpha(i), table.alpha(i), rtol=1e-11, atol=0)
    torch.testing.assert_close(circle.sigma(i), table.sigma(i), rtol=1e-11, atol=0)
    third = circle.at(1 / 3)
    assert float(third.alpha) == pytest.approx(math.sqrt(3) / 2) and float(third.sigma) == pytest.approx(0.5)


# flow


def test_flow_is_the_straight_path() -> None:
    flow = build("schedule", "flow")
    t = torch.tensor([0.0, 0.1, 0.75, 1.0], dtype=torch.float64)
    assert torch.equal(flow.alpha(t), 1 - t) and torch.equal(flow.sigma(t), t)
    assert torch.equal(flow.label(flow.at(t)), 1000 * t)
    # (1 - t) / t = e^10 where log SNR = 20
    noisiest, cleanest = flow.ends()
    assert cleanest == pytest.approx(1 / (1 + math.exp(10)), rel=1e-12)
    assert noisiest == pytest.approx(1 - 1 / (1 + math.exp(10)), rel=1e-12)


@pytest.mark.parametrize("shift", [0.25, 3.0, 12.0])
def test_shifted_flow_is_equation_23(shift: float) -> None:
    flow, t = build("schedule", "flow", shift=shift), T.numpy()
    shifted = shift * t / (1 + (shift - 1) * t)
    np.testing.assert_allclose(flow.sigma(T), shifted, rtol=1e-14)
    np.testing.assert_allclose(flow.alpha(T), 1 - shifted, rtol=1e-10)
    np.testing.assert_allclose(flow.label(flow.at(T)), 1000 * shifted, rtol=1e-14)
    # the shift moves log SNR by -2 ln s, at every time alike: Esser et al. 2024, below equation 23
    moved = flow.log_snr(T) - build("schedule", "flow").log_snr(T)
    np.testing.assert_allclose(moved, np.full(len(t), -2 * math.log(shift)), rtol=1e-10)


def test_shifted_flow_is_that_of_diffusers() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    theirs = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0)
    flow = build("schedule", "flow", shift=3.0)
    level = flow.at(torch.arange(1000, 0, -1, dtype=torch.float64) / 1000)
    np.testing.assert_allclose(level.sigma, theirs.sigmas.double(), rtol=1e-6)
    np.testing.assert_allclose(flow.label(level), theirs.timesteps.double(), rtol=1e-6)


# what cannot be


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("vp", {"beta_min": 5.0, "beta_max": 1.0}, "rises from beta_min to beta_max; got 5 and 1: swap them"),
        ("vp", {"beta_min": 0.0}, "beta_min"),
        ("edm", {"sigma_min": 80.0}, "rises from sigma_min to sigma_max; got 80 and 80: make sigma_max larger"),
        ("ve", {"sigma_max": 0.001}, "rises from sigma_min to sigma_max; got 0.01 and 0.001: make sigma_max larger"),
        ("edm", {"sigma_max": 1e6}, "sigma_max"),
        ("sigmoid", {"start": 3.0}, "from start up to end; got 3 and 3: make end larger"),
        ("sigmoid", {"tau": 0.0}, "tau"),
        ("flow", {"shift": 0.0}, "shift"),
        ("cosine_vp", {"steps": 1000}, "steps"),
    ],
)
def test_options_that_make_no_schedule(name: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PartError, match=sentence):
        build("schedule", name, **options)
