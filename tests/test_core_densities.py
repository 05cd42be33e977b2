"""Densities against scipy's distributions, and stratified draws: every stratum once, over all ranks, less variance."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from scipy import stats
from torch import Tensor

from dmf.core import Denoiser, Density, NoiseSchedule, generator, training_loss
from dmf.core.densities import discrete_uniform, log_normal, logit_normal, stratified, uniform
from dmf.core.objectives import l2
from dmf.core.predictions import v
from dmf.core.weightings import min_snr
from dmf.registry import PartError, build, read
from dmf.runner.assemble import build_model
from dmf.runner.feed import Batch
from dmf.runner.training.draws import Draws
from dmf.runner.world import World
from dmf.testing import Arc, Exploding, Straight

CPU = torch.device("cpu")


class Endless(Exploding):
    """So wide that no draw is clipped."""

    t_min, t_max = 4e-5, 2e4


def drawn(density: Density, schedule: NoiseSchedule, count: int = 20_000) -> Tensor:
    u = torch.rand(count, dtype=torch.float64, generator=generator(0, "u", 0))
    return density(u, schedule)


def log_ratio(density: Density, schedule: NoiseSchedule) -> Tensor:
    return schedule.at(drawn(density, schedule)).ratio.log()


NORMAL = [
    ("log_normal", {}, log_ratio, (-1.2, 1.2)),  # Karras et al. 2022, table 1
    ("log_normal", {"mean": 0.5, "std": 2.0}, log_ratio, (0.5, 2.0)),
    ("logit_normal", {}, lambda d, s: torch.logit(drawn(d, s)), (0.0, 1.0)),
    ("logit_normal", {"mean": -0.4, "std": 1.3}, lambda d, s: torch.logit(drawn(d, s)), (-0.4, 1.3)),
]


@pytest.mark.parametrize(("name", "options", "of", "moments"), NORMAL)
def test_normal_densities(
    name: str, options: dict[str, float], of: Callable[..., Tensor], moments: tuple[float, float]
) -> None:
    schedules = [Straight(), Arc(), Endless()] if name == "log_normal" else [Straight(), Arc()]
    for schedule in schedules:
        found = of(build("density", name, **options), schedule)
        assert stats.kstest(found.numpy(), stats.norm(*moments).cdf).pvalue > 0.01


def test_uniform_densities() -> None:
    low, high = Exploding.t_min, Exploding.t_max
    t = drawn(uniform, Exploding())
    assert stats.kstest(t.numpy(), stats.uniform(low, high - low).cdf).pvalue > 0.01
    counts = torch.bincount((drawn(discrete_uniform, build("schedule", "linear")) * 1000).round().long())
    assert len(counts) == 1001 and counts[0] == 0 and stats.chisquare(counts[1:].numpy()).pvalue > 0.01


@pytest.mark.parametrize(("name", "options", "of", "moments"), NORMAL)
def test_normal_densities_are_the_inverse_distribution(
    name: str, options: dict[str, float], of: Callable[..., Tensor], moments: tuple[float, float]
) -> None:
    """To the digit, where thousands of draws would not tell a mean that is a hundredth off."""
    density, want = build("density", name, **options), stats.norm(*moments)
    found = of(lambda u, schedule: density((u + 1) / 3, schedule), Straight())
    u = torch.rand(20_000, dtype=torch.float64, generator=generator(0, "u", 0))
    assert abs(found.numpy() - want.ppf((u + 1) / 3)).max() < 1e-9


@pytest.mark.parametrize(("schedule", "steps"), [("linear", 1000), ("cosine", 40), ("flow", 1000)])
def test_discrete_times_are_the_tables_own(schedule: str, steps: int) -> None:
    found = build("schedule", schedule, **({"steps": steps} if schedule != "flow" else {}))
    u = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    label = found.label(found.at(discrete_uniform(u, found)))
    first = 1.0 if schedule == "flow" else 0.0  # 1000 t, or i - 1
    want = torch.arange(steps, dtype=torch.float64) + first
    torch.testing.assert_close(label[:-1], want[:-1], atol=1e-9, rtol=0)
    assert label[-1] == pytest.approx(float(want[-1]), abs=0.1)  # flow's last lies beyond log SNR -20


def test_logit_normal_is_about_t_and_log_normal_about_the_level() -> None:
    """The same t on two schedules are two levels; the same levels are two t."""
    on = [Straight(), Arc()]
    assert torch.equal(*(drawn(logit_normal, schedule) for schedule in on))
    assert not torch.allclose(*(log_ratio(logit_normal, schedule) for schedule in on))
    torch.testing.assert_close(*(log_ratio(log_normal, schedule) for schedule in on))
    assert not torch.allclose(*(drawn(log_normal, schedule) for schedule in on))


def test_schedules_are_asked_for_no_level_beyond_the_limit() -> None:
    """The u = 0 that a draw may hold is a level of no noise at all, which a closed form need not know."""

    class Touchy(Straight):
        def t_at(self, log_snr: Tensor | float) -> Tensor:
            asked = torch.as_tensor(log_snr)
            assert (asked.abs() <= 20).all(), asked
            return super().t_at(log_snr)

    t = log_normal(torch.tensor([0.0, 0.5, 1 - 2.0**-53], dtype=torch.float64), Touchy())
    assert t.isfinite().all() and (t.diff() > 0).all()


@pytest.mark.parametrize("name", ["log_normal", "logit_normal"])
def test_a_std_that_cannot_be(name: str) -> None:
    with pytest.raises(PartError, match="std"):
        build("density", name, std=0)


@pytest.mark.parametrize("count", [1, 2, 7, 256, 1000])
def test_every_stratum_once(count: int) -> None:
    for position in range(20):
        u = stratified(count, generator(3, "time", position))
        assert u.shape == (count,) and u.dtype == torch.float64 and u.min() >= 0 and u.max() < 1
        assert (u * count).floor().sort().values.tolist() == list(range(count))


def test_each_place_of_a_batch_is_uniform_and_the_order_random() -> None:
    draws = torch.stack([stratified(8, generator(0, "time", position)) for position in range(3000)])
    for place in draws.T:
        assert stats.kstest(place.numpy(), "uniform").pvalue > 0.001
    first, second = (8 * draws[:, :2]).floor().T
    table = torch.zeros(8, 8).index_put_((first.long(), second.long()), torch.ones(3000), accumulate=True)
    assert table.diagonal().sum() == 0 and (table + torch.eye(8) * 99).min() > 25  # 3000 / 56 = 54 are expected
    within = (8 * draws).frac().flatten()
    assert stats.kstest(within.numpy(), "uniform").pvalue > 0.001  # jittered, not one grid that is moved


def test_a_pure_function_of_seed_and_images_seen() -> None:
    draw = [stratified(64, generator(seed, "time", seen)) for seed, seen in ((0, 0), (0, 0), (1, 0), (0, 64))]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2]) and not torch.equal(draw[0], draw[3])


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_share_the_strata_of_the_global_batch(tiny: Path, size: int) -> None:
    model = build_model(read(tiny), build("dataset", "digits").spec)

    def times(rank: int, of: int) -> Tensor:
        draws = Draws(model, uniform, 5, 24, 0.0, World(rank, of, CPU), stratified=True)
        images = torch.zeros(24 // of, 1, 8, 8, dtype=torch.uint8)
        batch = Batch(images, {"class": torch.zeros(24 // of, dtype=torch.int64)}, torch.arange(24 // of))
        return draws(batch, 240)[2].t.flatten()

    together = torch.cat([times(rank, size) for rank in range(size)])
    assert torch.equal(together, times(0, 1))
    noisiest, cleanest = model.schedule.ends()
    strata = ((together - cleanest) / (noisiest - cleanest) * 24).floor()
    assert strata.sort().values.tolist() == list(range(24))
    assert times(0, size).std() > 0.15  # no rank is given a part of the range of its own


def test_the_loss_of_a_batch_varies_less() -> None:
    """A fixed network on fixed images: the variance over batches of the mean loss, which the choice of times adds."""
    schedule, count = Straight(), 64
    x0 = 0.5 * torch.randn(count, 1, 4, 4, generator=generator(0, "images", 0), dtype=torch.float64)
    denoiser = Denoiser(lambda x, noise, cond: 0.3 * torch.tanh(x), schedule, v)

    def variance(draw: Callable[[torch.Generator], Tensor]) -> float:
        means = []
        for position in range(400):
            eps = torch.randn(x0.shape, generator=generator(0, "noise", position), dtype=torch.float64)
            level = schedule.at(uniform(draw(generator(0, "time", position)), schedule)).per_image(4)
            means.append(training_loss(denoiser, l2, min_snr, x0, eps, level, {}).mean())
        return float(torch.stack(means).var())

    independent = variance(lambda random: torch.rand(count, dtype=torch.float64, generator=random))
    spread = variance(lambda random: stratified(count, random))
    assert spread < 0.5 * independent, (spread, independent)


def test_a_smooth_mean_converges_faster() -> None:
    """One draw in each of n strata: the error of a mean falls as n^-3/2, of independent draws as n^-1/2."""

    def rms(count: int) -> float:
        means = [stratified(count, generator(0, "time", k)).square().mean() - 1 / 3 for k in range(300)]
        return float(torch.stack(means).square().mean().sqrt())

    ratio = rms(16) / rms(256)
    assert 16**1.5 / 1.3 < ratio < 16**1.5 * 1.3
