"""Every registered schedule against the contract kit, and the built-in ones against their papers' formulas."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from dmf.core import NoiseSchedule, TableSchedule
from dmf.core.densities import discrete_uniform
from dmf.registry import build, parts
from dmf.testing import SCHEDULE_CHECKS, check_schedule

SCHEDULES: dict[str, NoiseSchedule] = {p.name: build("schedule", p.name) for p in parts("schedule")}


@pytest.mark.parametrize("check", SCHEDULE_CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", SCHEDULES)
def test_contract(name: str, check: object) -> None:
    check(SCHEDULES[name])  # type: ignore[operator]


@pytest.mark.parametrize("options", [{"steps": 2}, {"steps": 10}, {"steps": 4000}, {"offset": 0.0}], ids=str)
def test_cosine_tables_of_any_length(options: dict[str, float]) -> None:
    check_schedule(build("schedule", "cosine", **options))


@pytest.mark.parametrize("options", [{"steps": 2}, {"steps": 50}, {"steps": 100, "low": 1e-3, "high": 0.2}], ids=str)
def test_linear_tables_of_any_length(options: dict[str, float]) -> None:
    check_schedule(build("schedule", "linear", **options))


def test_flow_is_the_straight_path() -> None:
    flow = SCHEDULES["flow"]
    t = torch.tensor([0.0, 0.1, 0.75, 1.0], dtype=torch.float64)
    assert torch.equal(flow.alpha(t), 1 - t) and torch.equal(flow.sigma(t), t)
    assert flow.label(flow.at(0.25)) == 250
    # (1 - t) / t = e^10 where log SNR = 20
    noisiest, cleanest = flow.ends()
    assert cleanest == pytest.approx(1 / (1 + math.exp(10)), rel=1e-12)
    assert noisiest == pytest.approx(1 - 1 / (1 + math.exp(10)), rel=1e-12)


def test_linear_is_ddpms_table() -> None:
    """alpha_bar_i = prod (1 - beta), betas from 1e-4 to 0.02: Ho et al. 2020, section 4 and equation 4."""
    linear = SCHEDULES["linear"]
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    at = linear.at(torch.arange(1, 1001, dtype=torch.float64) / 1000)
    np.testing.assert_allclose(at.alpha.numpy(), np.sqrt(alpha_bar), rtol=1e-12)
    np.testing.assert_allclose(at.sigma.numpy(), np.sqrt(1 - alpha_bar), rtol=1e-10)
    shifted = build("schedule", "linear", steps=3, low=0.1, high=0.5)
    np.testing.assert_allclose(shifted.alpha(torch.tensor(1.0)) ** 2, 0.9 * 0.7 * 0.5, rtol=1e-12)


def test_cosine_is_equation_17() -> None:
    """alpha_bar_t = f(t) / f(0), f(t) = cos^2((t / T + s) / (1 + s) pi / 2), except where betas are cut off."""
    cosine = SCHEDULES["cosine"]

    def f(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    for i in (1, 2, 100, 500, 900, 998, 999):
        assert float(cosine.alpha(torch.tensor(i / 1000, dtype=torch.float64))) ** 2 == pytest.approx(
            f(i / 1000) / f(0), rel=1e-9
        )
    last, before = (float(cosine.alpha(torch.tensor(t, dtype=torch.float64))) ** 2 for t in (1.0, 0.999))
    assert last / before == pytest.approx(1 - 0.999, rel=1e-9)


def test_tables_are_interpolated_in_log_snr_and_inverted_exactly() -> None:
    for name in ("linear", "cosine"):
        table = SCHEDULES[name]
        i = torch.arange(1, 1000, dtype=torch.float64)
        here, there, between = (table.log_snr((i + off) / 1000) for off in (0, 1, 0.25))
        torch.testing.assert_close(between, 0.75 * here + 0.25 * there, rtol=0, atol=1e-9)
        for t in (0.001, 0.0125, 0.3337, 0.999, 1.0):
            got = table.t_at(table.log_snr(torch.tensor(t, dtype=torch.float64)))
            assert float(got) == pytest.approx(t, abs=1e-13)
        torch.testing.assert_close(table.alpha(i / 1000) ** 2 + table.sigma(i / 1000) ** 2, torch.ones_like(i))


def test_a_tables_ends_are_its_entries() -> None:
    """Cleaner than beta_1 nothing is trained, so nothing is asked."""
    for name in ("linear", "cosine"):
        assert SCHEDULES[name].ends() == (1.0, 0.001)
    assert build("schedule", "linear", steps=50).ends() == (1.0, 0.02)


def test_a_table_tells_the_network_i_minus_1_in_training_too() -> None:
    u = torch.linspace(0, 1 - 2**-24, 5000)  # float32, as anybody would draw them
    for name in ("linear", "cosine"):
        table = SCHEDULES[name]
        labels = table.label(table.at(discrete_uniform(u, table))).to(torch.float32)
        assert sorted(set(labels.tolist())) == [float(i) for i in range(1000)]


def test_tables_that_cannot_be() -> None:
    for betas in ([0.1, 0.0], [0.1, 1.5], [-0.1], [[0.1]]):
        with pytest.raises(ValueError, match=r"a row of numbers in \(0, 1\]"):
            TableSchedule(torch.tensor(betas))
    with pytest.raises(ValueError, match="beyond"):
        TableSchedule(torch.tensor([0.5, 1.0, 1.0]))
    with pytest.raises(ValueError, match="beyond"):
        TableSchedule(torch.tensor([1e-12, 0.5]))


def test_zero_terminal_snr_is_a_table_like_any_other() -> None:
    betas = torch.cat([torch.linspace(1e-3, 0.2, 49, dtype=torch.float64), torch.ones(1, dtype=torch.float64)])
    table = TableSchedule(betas)
    assert float(table.at(1.0).log_snr) == pytest.approx(-20)
    check_schedule(table)


def test_the_clean_end_is_the_image() -> None:
    for schedule in SCHEDULES.values():
        clean = schedule.clean
        assert (float(clean.t), float(clean.alpha), float(clean.sigma)) == (0.0, 1.0, 0.0)
        x = torch.randn(2, 3)
        assert torch.equal(clean.mix(x, torch.randn(2, 3)), x)


def test_fields_of_a_level_fall_and_rise() -> None:
    for schedule in SCHEDULES.values():
        noisiest, cleanest = schedule.ends()
        levels = [schedule.at(t) for t in np.linspace(cleanest, noisiest, 50)]
        for a, b in pairwise(levels):
            assert b.alpha < a.alpha and b.sigma > a.sigma and b.ratio > a.ratio and b.log_snr < a.log_snr
