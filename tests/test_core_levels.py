"""Levels and densities: what a level knows, and where networks practise."""

import math

import pytest
import torch
from torch import Tensor

from dmf.core import NoiseSchedule, TableSchedule, densities, generator
from dmf.registry import build, load, parts
from dmf.testing import Straight, unlike_schedules

SCHEDULES: dict[str, NoiseSchedule] = {p.name: build("schedule", p.name) for p in parts("schedule")}
SCHEDULES |= unlike_schedules()
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
