"""Schedules made of betas: each against its paper's formula in extended precision, and against diffusers' tables."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from dmf.core import NoiseSchedule, TableSchedule, grids, levels_of
from dmf.core.densities import discrete_uniform
from dmf.registry import PartError, build
from dmf.testing import check_schedule

LONG = np.longdouble  # 64 bits of mantissa or more: 1 - alpha_bar keeps its digits at the clean end
Betas = Callable[..., np.ndarray]


def linear(steps: int, low: float = 1e-4, high: float = 0.02) -> np.ndarray:
    """Ho et al. 2020, section 4."""
    return np.array([low + (high - low) * LONG(i) / (steps - 1) for i in range(steps)])


def scaled_linear(steps: int, low: float = 0.00085, high: float = 0.012) -> np.ndarray:
    """The latent diffusion code: evenly spaced roots."""
    a, b = np.sqrt(LONG(low)), np.sqrt(LONG(high))
    return np.array([(a + (b - a) * i / (steps - 1)) ** 2 for i in range(steps)])


def cosine(steps: int, offset: float = 0.008, beta_max: float = 0.999) -> np.ndarray:
    """Nichol & Dhariwal 2021, equation 17 and the sentence below it."""
    pi, s = 4 * np.arctan(LONG(1)), LONG(offset)

    def f(i: int) -> Any:
        return np.cos((LONG(i) / steps + s) / (1 + s) * pi / 2) ** 2

    return np.array([min(1 - (f(i) / f(0)) / (f(i - 1) / f(0)), LONG(beta_max)) for i in range(1, steps + 1)])


def dns(steps: int, low: float = 1e-4, high: float = 0.02, offset: int = 5) -> np.ndarray:
    """Low and high scaled by 1000 / T; beta_i = low + (high - low) ((i + off) / (T + 1 + off))^2, i = 0 ... T - 1."""
    low, high = LONG(low) * 1000 / steps, LONG(high) * 1000 / steps
    return np.array([low + (high - low) * (LONG(i + offset) / (steps + 1 + offset)) ** 2 for i in range(steps)])


def dnst(steps: int, low: float = 1e-4, high: float = 0.02) -> np.ndarray:
    """The same with off = T."""
    return dns(steps, low, high, offset=steps)


FORMULAS: dict[str, Betas] = {f.__name__: f for f in (linear, scaled_linear, cosine, dns, dnst)}
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    *((name, {"steps": 1000}) for name in FORMULAS),
    *((name, {"steps": 20}) for name in FORMULAS),
    *((name, {"steps": 4000}) for name in ("cosine", "dns", "dnst")),
    ("linear", {"steps": 4000, "low": 2.5e-5, "high": 0.005}),
    ("scaled_linear", {"steps": 4000, "low": 2e-4, "high": 0.003}),
    *((name, {"steps": 10, "low": 1e-3, "high": 0.5}) for name in ("linear", "scaled_linear")),
    *((name, {"steps": 2, "low": 1e-3, "high": 0.5}) for name in ("linear", "scaled_linear")),
    *((name, {"steps": 10, "low": 1e-6, "high": 1e-3}) for name in ("dns", "dnst")),
    *((name, {"steps": 2, "low": 1e-6, "high": 1e-3}) for name in ("dns", "dnst")),
    ("cosine", {"steps": 2}),
    ("cosine", {"steps": 10}),
    ("cosine", {"steps": 4000, "offset": 0.0}),
    ("cosine", {"steps": 1000, "offset": 0.1, "beta_max": 0.02}),
    ("linear", {"steps": 100, "low": 0.2, "high": 1e-3}),  # falling betas are a schedule too
]
settings = pytest.mark.parametrize(("name", "options"), SETTINGS, ids=[f"{n}-{o}" for n, o in SETTINGS])


def at_steps(schedule: NoiseSchedule, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """(alpha^2, sigma^2) at t = 1 / T ... 1."""
    level = schedule.at(torch.arange(1, steps + 1, dtype=torch.float64) / steps)
    return level.alpha.numpy() ** 2, level.sigma.numpy() ** 2


@settings
def test_table_is_its_papers_formula(name: str, options: dict[str, Any]) -> None:
    alpha_bar = np.cumprod(1 - FORMULAS[name](**options))  # Ho et al. 2020, equation 4
    signal, noise = at_steps(build("schedule", name, **options), options["steps"])
    alpha_bar = np.maximum(alpha_bar, 1 / (1 + np.exp(LONG(20))))  # log SNR -20, reached in the cosine's last step
    np.testing.assert_allclose(signal, alpha_bar.astype(float), rtol=1e-11)
    np.testing.assert_allclose(noise, (1 - alpha_bar).astype(float), rtol=1e-11)


@settings
def test_zero_terminal_snr_is_algorithm_1(name: str, options: dict[str, Any]) -> None:
    """Lin et al. 2023, algorithm 1, line by line; what is left below log SNR -20 stands there."""
    root = np.sqrt(np.cumprod(1 - FORMULAS[name](**options)))
    first, last = root[0], root[-1]
    root = root - last
    root = root * first / (first - last)
    alpha_bar = root**2
    told = alpha_bar / (1 - alpha_bar) > np.exp(-20.0)
    schedule = build("schedule", name, zero_terminal_snr=True, **options)
    signal, noise = at_steps(schedule, options["steps"])
    np.testing.assert_allclose(signal[told], alpha_bar[told].astype(float), rtol=1e-9)
    np.testing.assert_allclose(noise[told], (1 - alpha_bar[told]).astype(float), rtol=1e-11)
    assert not told[-1] and schedule.zero_terminal_snr
    assert float(schedule.at(schedule.ends()[0]).log_snr) == pytest.approx(-20, abs=1e-9)
    check_schedule(schedule)


@settings
def test_every_setting_keeps_the_contract(name: str, options: dict[str, Any]) -> None:
    schedule = build("schedule", name, **options)
    check_schedule(schedule)
    assert not schedule.zero_terminal_snr


DIFFUSERS = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("steps", [50, 1000])
@pytest.mark.parametrize("name", DIFFUSERS)
def test_table_is_that_of_diffusers(name: str, steps: int, zero_terminal_snr: bool) -> None:
    """Theirs is float32, and one minus that. Their `sigmoid` is GeoDiff's betas, not ours."""
    from diffusers import DDPMScheduler

    ends = {} if name == "cosine" else {"low": 0.0007, "high": 0.015}
    theirs = DDPMScheduler(
        num_train_timesteps=steps,
        beta_schedule=DIFFUSERS[name],  # type: ignore[arg-type]
        beta_start=0.0007,
        beta_end=0.015,
        rescale_betas_zero_snr=zero_terminal_snr,
    )
    options = {"steps": steps, "zero_terminal_snr": zero_terminal_snr, **ends}
    signal, noise = at_steps(build("schedule", name, **options), steps)
    expected = theirs.alphas_cumprod.double().numpy()
    np.testing.assert_allclose(signal, expected, rtol=2e-4, atol=3e-8)
    np.testing.assert_allclose(noise, 1 - expected, rtol=2e-4, atol=1e-6)


def test_defaults_are_the_papers() -> None:
    for name in FORMULAS:
        assert torch.equal(build("schedule", name).table, build("schedule", name, steps=1000).table)
    # the published range of Stable Diffusion: sqrt((1 - alpha_bar) / alpha_bar) from 0.0292 to 14.6146
    ratio = build("schedule", "scaled_linear").at(torch.tensor([0.001, 1.0])).ratio
    np.testing.assert_allclose(ratio, [0.0292, 14.6146], rtol=2e-3)


def test_tables_are_interpolated_in_log_snr_and_inverted_exactly() -> None:
    for name in FORMULAS:
        table = build("schedule", name)
        i = torch.arange(1, 1000, dtype=torch.float64)
        here, there, between = (table.log_snr((i + off) / 1000) for off in (0, 1, 0.25))
        torch.testing.assert_close(between, 0.75 * here + 0.25 * there, rtol=0, atol=1e-9)
        for t in (0.001, 0.0125, 0.3337, 0.999, 1.0):
            got = table.t_at(table.log_snr(torch.tensor(t, dtype=torch.float64)))
            assert float(got) == pytest.approx(t, abs=1e-13)
        torch.testing.assert_close(table.alpha(i / 1000) ** 2 + table.sigma(i / 1000) ** 2, torch.ones_like(i))


def test_a_tables_ends_are_its_entries() -> None:
    """Cleaner than beta_1 nothing is trained, so nothing is asked."""
    for name in FORMULAS:
        assert build("schedule", name).ends() == (1.0, 0.001)
    assert build("schedule", "linear", steps=50).ends() == (1.0, 0.02)


def test_a_rescaled_tables_noisy_end_is_minus_20() -> None:
    """At step T, where the step before is cleaner than that; else where the table comes by."""
    assert build("schedule", "linear", zero_terminal_snr=True).ends() == (1.0, 0.001)
    late = build("schedule", "dnst", zero_terminal_snr=True)  # algorithm 1 puts its step 999 at -20.9
    assert 0.998 < late.ends()[0] < 0.999
    levels = levels_of(late, grids.uniform(late, 1000))
    assert all(a.log_snr < b.log_snr for a, b in pairwise(levels))
    times = discrete_uniform(torch.linspace(0, 1 - 2**-24, 5000), late)
    assert float(late.log_snr(times).min()) == pytest.approx(-20, abs=1e-9)


def test_a_table_tells_the_network_i_minus_1_in_training_too() -> None:
    u = torch.linspace(0, 1 - 2**-24, 5000)  # float32, as anybody would draw them
    for name in FORMULAS:
        table = build("schedule", name)
        labels = table.label(table.at(discrete_uniform(u, table))).to(torch.float32)
        assert sorted(set(labels.tolist())) == [float(i) for i in range(1000)]


def test_rescaling_a_table_that_ends_in_noise_changes_nothing() -> None:
    betas = torch.cat([torch.linspace(1e-3, 0.2, 49, dtype=torch.float64), torch.ones(1, dtype=torch.float64)])
    table, again = TableSchedule(betas), TableSchedule(betas, zero_terminal_snr=True)
    assert table.zero_terminal_snr and float(table.at(1.0).log_snr) == pytest.approx(-20)
    torch.testing.assert_close(again.table, table.table, rtol=0, atol=1e-12)
    check_schedule(table)


def test_betas_that_cannot_be() -> None:
    for betas, got in (
        ([0.1, 0.0], "beta_2 = 0 of 2"),
        ([0.1, 1.5], "beta_2 = 1.5 of 2"),
        ([-0.1], "beta_1 = -0.1 of 1"),
        ([0.1, float("nan")], "beta_2 = nan"),
        ([[0.1]], r"shape \(1, 1\)"),
        ([], r"shape \(0,\)"),
    ):
        with pytest.raises(ValueError, match=rf"a row of numbers in \(0, 1\]; got .*{got}"):
            TableSchedule(torch.tensor(betas))
    with pytest.raises(ValueError, match=r"from step 2 of 3 on the log SNR is -inf or less, beyond .*: take fewer"):
        TableSchedule(torch.tensor([0.5, 1.0, 1.0]))
    with pytest.raises(ValueError, match=r"step 1 of 2 has a log SNR of 27\.6, beyond .*: make beta_1 larger"):
        TableSchedule(torch.tensor([1e-12, 0.5]))
    with pytest.raises(ValueError, match="step 2 of 3 adds no noise that float64 can hold: make its beta larger"):
        TableSchedule(torch.tensor([0.5, 1e-30, 0.5]))
    with pytest.raises(ValueError, match=r"one step cannot be rescaled .*; give it two steps at least"):
        TableSchedule(torch.tensor([0.5]), zero_terminal_snr=True)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("linear", {"steps": 4000}, "from step 2809 of 4000 on .*: take fewer steps or smaller betas"),
        ("linear", {"low": 1e-10}, "step 1 of 1000 has a log SNR of 23.0, .*: make beta_1 larger"),
        ("scaled_linear", {"steps": 4000, "zero_terminal_snr": True}, "take fewer steps or smaller betas"),
        ("dns", {"steps": 10}, r"scaled by 1000 / 10 steps, give a beta of 1\.53, .*: take more steps, or bring low"),
        ("dnst", {"steps": 2}, "take more steps, or bring low and high down"),
        ("cosine", {"beta_max": 1e-12}, "make beta_1 larger"),
        ("linear", {"steps": 1}, "steps"),
        ("scaled_linear", {"high": 1.0}, "high"),
        ("dns", {"low": 0.0}, "low"),
        ("linear", {"zero_terminal_snr": "perhaps"}, "zero_terminal_snr"),
    ],
)
def test_options_that_make_no_table(name: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PartError, match=sentence):
        build("schedule", name, **options)
