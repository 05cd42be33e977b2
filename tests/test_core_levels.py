"""Levels, grids and densities: where samplers step and where networks practise."""

import math

import pytest
import torch
from torch import Tensor

from dmf.core import NoiseSchedule, TableSchedule, densities, generator, grids, levels_of
from dmf.core.schedule import LOG_SNR_LIMIT
from dmf.registry import build, load, parts
from dmf.testing import Straight, unlike_schedules

SCHEDULES: dict[str, NoiseSchedule] = {p.name: build("schedule", p.name) for p in parts("schedule")}
SCHEDULES |= unlike_schedules()
GRIDS: dict[str, grids.Grid] = {p.name: load(p) for p in parts("grid")}
DENSITIES: dict[str, densities.Density] = {p.name: load(p) for p in parts("density")}


def test_mix_and_noise_in_are_inverse_and_keep_the_dtype() -> None:
    x0, eps = torch.randn(2, 1, 3, 4, 4, generator=generator(0, "x", 0))
    level = Straight().at(0.3)
    torch.testing.assert_close(level.mix(x0, eps), 0.7 * x0 + 0.3 * eps)
    torch.testing.assert_close(level.noise_in(level.mix(x0, eps), x0), eps)
    assert level.mix(x0, eps).dtype == level.noise_in(x0, eps).dtype == torch.float32
    each = Straight().at(torch.tensor([0.3])).per_image(4)
    assert each.alpha.shape == (1, 1, 1, 1) and each.mix(x0, eps).dtype == torch.float32
    assert torch.equal(each.mix(x0, eps), level.mix(x0, eps))


def test_log_snr_and_ratio_of_a_level() -> None:
    level = Straight().at(0.2)
    assert float(level.log_snr) == pytest.approx(2 * math.log(4)) and float(level.ratio) == pytest.approx(0.25)
    assert float(Straight().clean.log_snr) == math.inf


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


@pytest.mark.parametrize("name", GRIDS)
def test_grids_start_where_there_is_nothing_but_noise(name: str) -> None:
    for schedule in SCHEDULES.values():
        first = levels_of(schedule, GRIDS[name](schedule, 4))[0]
        reach = float(schedule.at(schedule.ends()[0]).ratio)
        want = reach if name == "uniform" else min(80.0, reach)
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
    for grid in (grids.karras, grids.log_snr):
        with pytest.raises(ValueError, match=r"sigma_min < sigma_max; got 3\.0 and 2\.0"):
            grid(Straight(), 5, sigma_min=3.0, sigma_max=2.0)
        with pytest.raises(ValueError, match="outside the grid's range"):
            grid(unlike_schedules()["exploding"], 5, sigma_min=100.0, sigma_max=200.0)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", DENSITIES)
def test_training_times_stay_where_parts_are_called(name: str, schedule: NoiseSchedule) -> None:
    noisiest, cleanest = schedule.ends()
    for dtype in (torch.float32, torch.float64):
        u = torch.cat([torch.zeros(1, dtype=dtype), torch.rand(1000, dtype=dtype), 1 - torch.full((1,), 2.0**-24)])
        t = DENSITIES[name](u, schedule)
        assert t.shape == u.shape and t.dtype == torch.float64
        assert (t >= cleanest).all() and (t <= noisiest).all()
        assert (t[u.argsort()].diff() >= 0).all(), "noisier as u grows"
        level = schedule.at(t)
        assert (level.alpha > 0).all() and (level.sigma > 0).all() and schedule.label(level).isfinite().all()


def even(count: int = 100_000) -> Tensor:
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def test_uniform_density() -> None:
    t = densities.uniform(even(), Straight())
    assert float(t.mean()) == pytest.approx(0.5, abs=1e-6) and float(t.std()) == pytest.approx(12**-0.5, rel=1e-3)


def test_discrete_uniform_gives_each_time_once() -> None:
    table = TableSchedule(torch.linspace(1e-3, 0.2, 50, dtype=torch.float64))
    t = densities.discrete_uniform(even(5000), table, steps=50)
    assert torch.bincount((t * 50).round().long()).tolist() == [0] + [100] * 50


def test_logit_normal_is_equation_19() -> None:
    """pi(t) = 1 / (s sqrt(2 pi) t (1 - t)) exp(-(logit t - m)^2 / (2 s^2)): its distribution function at a few t."""
    t = densities.logit_normal(even(), Straight(), mean=-0.4, std=1.3)
    for at in (0.05, 0.3, 0.5, 0.8, 0.97):
        z = (math.log(at / (1 - at)) + 0.4) / 1.3
        assert float((t <= at).double().mean()) == pytest.approx(0.5 * (1 + math.erf(z / math.sqrt(2))), abs=1e-4)
