"""Grids: where samplers step, on every schedule, and as their papers have it."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dmf.core import NoiseSchedule, TableSchedule, grids, levels_of
from dmf.core.schedule import LOG_SNR_LIMIT
from dmf.registry import build, load, parts
from dmf.testing import Straight, unlike_schedules

SCHEDULES: dict[str, NoiseSchedule] = {p.name: build("schedule", p.name) for p in parts("schedule")}
SCHEDULES |= unlike_schedules()
LINEAR = SCHEDULES["linear"]
GRIDS: dict[str, grids.Grid] = {p.name: load(p) for p in parts("grid") if p.name != "explicit"}
CLIPPED = ("karras", "log_snr")  # begin at sigma / alpha = 80, or where the schedule does


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("steps", [1, 2, 3, 50, 999])
def test_every_grid_on_every_schedule(name: str, schedule: NoiseSchedule, steps: int) -> None:
    """``steps`` levels of positive sigma and alpha, falling strictly, and the clean image after them."""
    levels = levels_of(schedule, GRIDS[name](schedule, steps))
    assert len(levels) == steps + 1
    log_snr = torch.stack([level.log_snr for level in levels])
    assert (log_snr.diff() > 0).all() and (log_snr[:-1].abs() <= LOG_SNR_LIMIT + 1e-6).all()
    assert all(level.alpha > 0 for level in levels) and all(level.sigma > 0 for level in levels[:-1])
    assert (float(levels[-1].alpha), float(levels[-1].sigma)) == (1, 0)
    for level in levels:
        for field in (level.t, level.alpha, level.sigma):
            assert field.ndim == 0 and field.dtype == torch.float64 and field.device.type == "cpu"


@pytest.mark.parametrize("name", sorted(set(GRIDS) - {"leading"}))
def test_grids_start_where_there_is_nothing_but_noise(name: str) -> None:
    for schedule in SCHEDULES.values():
        first = levels_of(schedule, GRIDS[name](schedule, 4))[0]
        reach = float(schedule.at(schedule.ends()[0]).ratio)
        want = min(80.0, reach) if name in CLIPPED else reach
        assert float(first.ratio) == pytest.approx(want, rel=1e-9)


def test_uniform_is_ddpms_own_list_of_times() -> None:
    table = SCHEDULES["linear"]
    torch.testing.assert_close(grids.uniform(table, 1000) * 1000, torch.arange(1000, 0, -1).double(), rtol=0, atol=1e-9)
    assert (grids.uniform(table, 5) * 1000).tolist() == pytest.approx([1000, 800, 600, 400, 200])
    assert grids.uniform(table, 1).tolist() == [1.0]
    more = levels_of(table, grids.uniform(table, 2500))
    assert len(more) == 2501 and float(more[-2].t) == pytest.approx(0.001)


def test_log_snr_is_even_in_log_snr() -> None:
    levels = levels_of(Straight(), grids.log_snr(Straight(), 9, sigma_min=0.01, sigma_max=50.0))[:-1]
    log_snr = torch.stack([level.log_snr for level in levels])
    torch.testing.assert_close(log_snr.diff(), log_snr.diff()[:1].expand(8), rtol=1e-9, atol=0)
    assert float(levels[0].ratio) == pytest.approx(50) and float(levels[-1].ratio) == pytest.approx(0.01)


def test_karras_is_equation_5() -> None:
    levels = levels_of(Straight(), grids.karras(Straight(), 18))[:-1]
    want = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)]
    assert [float(level.ratio) for level in levels] == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize(
    ("times", "sentence"),
    [
        ([], "at least one step"),
        ([[0.5]], "at least one step"),
        ([0.2, 0.8], "falls from noise to image"),
        ([0.8, 0.8, 0.2], "each level once"),
        ([0.8, math.nan], "falls from noise to image"),
        ([1.0, 0.99999, 0.5], "each level once"),
    ],
)
def test_grids_that_cannot_be(times: list[float], sentence: str) -> None:
    """The last: both times are beyond log SNR -20, and clipped there would be one level twice, a step of no length."""
    with pytest.raises(ValueError, match=sentence):
        levels_of(Straight(), torch.tensor(times))


def test_grid_options_that_cannot_be() -> None:
    for name in GRIDS:
        with pytest.raises(ValueError, match="steps = 0"):
            GRIDS[name](Straight(), 0)
    for grid in (grids.karras, grids.log_snr, grids.arctan):
        with pytest.raises(ValueError, match="sigma_min < sigma_max; got 3 and 2"):
            grid(Straight(), 5, sigma_min=3.0, sigma_max=2.0)
        for given in ({"sigma_min": 100.0}, {"sigma_max": 80.1}, {"sigma_min": 0.001}):
            with pytest.raises(ValueError, match=r"from 0\.002 to 80; sigma_m.. = .* is outside: give one within"):
                grid(unlike_schedules()["exploding"], 5, **given)
        levels_of(Straight(), grid(Straight(), 5, sigma_min=0.01, sigma_max=300.0))


def whole(i: Tensor) -> bool:
    return float((i - i.round()).abs().max()) < 1e-9


def steps_of(name: str, steps: int, **options: Any) -> list[int]:
    """Which steps of the table a grid takes; all whole numbers."""
    i = GRIDS[name](LINEAR, steps, **options) * 1000
    assert whole(i)
    return [int(k) for k in i.round()]


def test_trailing_leading_and_linspace_are_those_of_table_2() -> None:
    """Lin et al. 2023, table 2: T = 1000, ten steps."""
    assert steps_of("leading", 10) == [901, 801, 701, 601, 501, 401, 301, 201, 101, 1]
    assert steps_of("linspace", 10) == [1000, 889, 778, 667, 556, 445, 334, 223, 112, 1]
    assert steps_of("trailing", 10) == [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100]


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 30, 333, 700, 1000])
def test_table_grids_against_numpy(steps: int) -> None:
    t = 1000
    trailing = np.round(np.arange(t, 0, -t / steps))[:steps]  # floating point may give one more
    assert steps_of("trailing", steps) == trailing.tolist()
    assert steps_of("leading", steps) == [k * (t // steps) + 1 for k in reversed(range(steps))]
    want = np.round(np.linspace(1, t, steps))[::-1] if steps > 1 else np.array([t])
    assert np.abs(np.array(steps_of("linspace", steps)) - want).max() <= 1, "halves may be rounded the other way"
    assert steps_of("leading", 5, offset=1) == [802, 602, 402, 202, 2]


def test_quadratic_is_that_of_ddim() -> None:
    """The authors' list for CIFAR-10 is (linspace(0, sqrt(0.8 T), S)^2) cut to whole numbers, counted from 0."""
    got = steps_of("quadratic", 10, reach=0.8)
    want = [1 + math.floor(799 * (k / 9) ** 2) for k in reversed(range(10))]
    assert got == want and got[0] == 800 and got[-1] == 1
    many = steps_of("quadratic", 500)
    assert len(set(many)) == 500 and many[-5:] == [5, 4, 3, 2, 1]
    assert steps_of("quadratic", 1000) == list(range(1000, 0, -1))


def test_table_grids_on_other_tables() -> None:
    short = TableSchedule(torch.linspace(1e-3, 0.2, 50, dtype=torch.float64))
    for name in ("leading", "trailing", "linspace", "quadratic"):
        assert whole(GRIDS[name](short, 7) * 50), "its own steps"
        assert whole(GRIDS[name](short, 7, table=25) * 25)  # type: ignore[call-arg]
        with pytest.raises(ValueError, match="50 steps of a table; got steps = 51: ask for at most 50"):
            GRIDS[name](short, 51)
        exploding = GRIDS[name](unlike_schedules()["exploding"], 4)  # no table: a thousand steps of its range
        assert whole((exploding - 0.002) / (80 - 0.002) * 1000)
    with pytest.raises(ValueError, match="begins at step 1001, but there are 1000"):
        grids.leading(LINEAR, 1000, offset=1)
    with pytest.raises(ValueError, match=r"reaches step 500 of 1000 with reach = 0\.5; 600 steps do not fit"):
        grids.quadratic(LINEAR, 600, reach=0.5)


def test_arctan_is_even_in_its_angle() -> None:
    levels = levels_of(LINEAR, grids.arctan(LINEAR, 12, center=0.7, spread=1.3))
    theta = torch.stack([torch.arctan((level.ratio / 0.7) ** (1 / 1.3)) for level in levels])
    torch.testing.assert_close(theta.diff(), theta.diff()[:1].expand(12), rtol=1e-6, atol=0)
    assert float(levels[-1].sigma) == 0
    close = levels_of(Straight(), grids.arctan(Straight(), 9, spread=1e3, sigma_min=0.02, sigma_max=50.0))[:-1]
    assert float(close[0].ratio) == pytest.approx(50)


def test_explicit_takes_what_is_listed() -> None:
    for unit, values in (("t", [0.9, 0.3]), ("sigma", [9.0, 3 / 7]), ("log_snr", [-math.log(81), math.log(49 / 9)])):
        got = grids.explicit(Straight(), 2, values=values, unit=unit)  # type: ignore[arg-type]
        assert got.tolist() == pytest.approx([0.9, 0.3])


@pytest.mark.parametrize(
    ("values", "unit", "sentence"),
    [
        ([], "t", "lists no level; write at least one"),
        ([0.9], "t", "lists 1 levels, one a step; set steps to 1"),
        ([0.9, 1.4], "t", r"the schedule has t from .*; the grid lists \[1.4\]"),
        ([9.0, 0.0], "sigma", "leave the image itself out"),
        ([1e9, 1.0], "sigma", r"the schedule has sigma from .*lists \[1000000000.0\]"),
        ([-3.0, 40.0], "log_snr", r"the schedule has log_snr from -20 to 20; the grid lists \[40.0\]"),
    ],
)
def test_explicit_lists_that_cannot_be(values: list[float], unit: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        grids.explicit(Straight(), 2, values=values, unit=unit)
    with pytest.raises(ValueError, match="falls from noise to image"):
        levels_of(Straight(), grids.explicit(Straight(), 2, values=[0.3, 0.9]))
