"""Inpainting and image-to-image: known pixels stay what they are under every sampler; strength means one thing."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dmf.core import (
    Context,
    Denoise,
    ImageStreams,
    Level,
    NoiseSchedule,
    Sampler,
    generator,
    inpaint,
    known_pixels,
    levels_of,
    sample,
    start_from,
)
from dmf.core.grids import log_snr, uniform
from dmf.registry import build, parts
from dmf.testing import Mixture, unlike_schedules

SCHEDULES = unlike_schedules()
NAMES = [part.name for part in parts("sampler") if part.distribution == "dmf"]
DETERMINISTIC = [name for name in NAMES if not build("sampler", name).stochastic]
NEARLY = {"adams": 1e-3, "rk45": 1e-3}  # they do not solve the ODE of one point exactly, but to their own error
# of the six numbers of an image every other one is known; the rest depends on them
DATA = Mixture(torch.randn((3, 6), generator=generator(0, "means", 0), dtype=torch.float64), 0.3)
KNOWN = DATA.draw(4, generator(0, "known", 0)).reshape(4, 1, 6)
MASK = torch.tensor([True, False] * 3).view(1, 1, 6)


def eps(count: int = 4, position: int = 0) -> Tensor:
    return torch.randn((count, 1, 6), generator=generator(1, "eps", position), dtype=torch.float64)


def context(schedule: NoiseSchedule, count: int = 4) -> Context:
    streams = ImageStreams(0, range(count), (1, 6), dtype=torch.float64)
    return Context(schedule, streams.randn)


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_known_pixels_end_exactly_known(name: str, repeats: int) -> None:
    schedule = SCHEDULES["table"]
    levels = levels_of(schedule, log_snr(schedule, 6))
    x = levels[0].mix(torch.where(MASK, KNOWN, 0.0), eps())
    got = inpaint(
        build("sampler", name), DATA.denoise, x, KNOWN, MASK, levels, context(schedule), repeats, lambda *seen: None
    )
    assert float((got - KNOWN)[..., ::2].abs().max()) < 1e-9
    assert got.isfinite().all() and float((got - KNOWN)[..., 1::2].abs().max()) > 1e-2


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("schedule", ["table", "straight", "exploding"])
def test_under_deterministic_samplers_they_follow_their_own_noise(name: str, schedule: str) -> None:
    """At every level they are alpha known + sigma eps, with the one eps."""
    here, noise = SCHEDULES[schedule], eps()
    sampler = build("sampler", name)
    levels = levels_of(here, build("grid", sampler.grid)(here, 24))
    seen: list[tuple[Tensor, Level]] = []
    start = levels[0].mix(KNOWN, noise)
    inpaint(
        sampler, DATA.denoise, start, KNOWN, MASK, levels, context(here), 1, lambda i, x, level: seen.append((x, level))
    )
    assert len(seen) == 24
    for x, level in seen:
        size = math.hypot(float(level.alpha), float(level.sigma))
        assert float((x - level.mix(KNOWN, noise))[..., ::2].abs().max()) < NEARLY.get(name, 1e-9) * size


@pytest.mark.parametrize("name", [n for n in NAMES if n not in DETERMINISTIC])
def test_under_stochastic_samplers_they_keep_the_right_noise(name: str) -> None:
    """At every level their mean is alpha known and their standard deviation sigma; 4000 images, 3 numbers each."""
    schedule, count = SCHEDULES["arc"], 4000
    levels = levels_of(schedule, log_snr(schedule, 8, sigma_min=0.05, sigma_max=20.0))
    known, seen = KNOWN[:1], list[tuple[Tensor, Level]]()
    random = generator(2, "walk", 0)

    def randn() -> Tensor:
        return torch.randn((count, 1, 6), generator=random, dtype=torch.float64)

    inpaint(
        build("sampler", name),
        lambda x, level: torch.zeros_like(x),
        levels[0].mix(known.expand(count, -1, -1), randn()),
        known,
        MASK,
        levels,
        Context(schedule, randn),
        2,
        lambda i, x, level: seen.append((x, level)),
    )
    for x, level in seen[:-1]:
        off = ((x - level.alpha * known) / level.sigma)[..., ::2]
        assert float(off.mean().abs()) < 4 / math.sqrt(3 * count)
        assert float(off.std() - 1) == pytest.approx(0, abs=4 / math.sqrt(2 * 3 * count))


def test_nothing_is_known_and_it_is_sampling() -> None:
    schedule = SCHEDULES["straight"]
    levels = levels_of(schedule, uniform(schedule, 7))
    x = levels[0].sigma * eps()
    plain = sample(build("sampler", "ddpm"), DATA.denoise, x, levels, context(schedule))
    none = torch.zeros(1, 1, 1, dtype=torch.bool)
    got = inpaint(
        build("sampler", "ddpm"), DATA.denoise, x, torch.full_like(x, torch.nan), none, levels, context(schedule)
    )
    assert torch.equal(plain, got)


def right_partners(repeats: int) -> float:
    """Two clusters, told apart by either number: how often is the new number that of the known one's cluster?"""
    pairs = Mixture([[-1.0, -1.0], [1.0, 1.0]], 0.15)
    schedule, count = SCHEDULES["table"], 400
    levels = levels_of(schedule, log_snr(schedule, 20))
    random = generator(3, "pairs", 0)
    known = torch.where(torch.arange(count) % 2 == 0, -1.0, 1.0).double().view(-1, 1, 1).expand(-1, 1, 2)

    def randn() -> Tensor:
        return torch.randn((count, 1, 2), generator=random, dtype=torch.float64)

    mask = torch.tensor([True, False]).view(1, 1, 2)
    x = levels[0].mix(torch.where(mask, known, 0.0), randn())
    got = inpaint(build("sampler", "ddpm"), pairs.denoise, x, known, mask, levels, Context(schedule, randn), repeats)
    return float(((got[..., 1] > 0) == (known[..., 1] > 0)).double().mean())


def test_repeats_bring_new_pixels_into_harmony() -> None:
    once, often = right_partners(1), right_partners(8)
    assert once > 0.6 and often > 0.99 and often > once + 0.02


class Recorder(Sampler[int]):
    """Remembers how many steps it has taken since its beginning."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def init(self, x: Tensor) -> int:
        return 0

    def step(
        self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: int | None, context: Context
    ) -> tuple[Tensor, int]:
        assert state is not None
        self.seen.append((context.index, state))
        x0 = denoise(x, now)
        return then.mix(x0, now.noise_in(x, x0)), state + 1


@pytest.mark.parametrize(("repeats", "mean", "std"), [(1, 0.23, 0.36), (10, 0.43, 0.23)])
def test_one_walk_is_not_yet_the_conditional_distribution(repeats: int, mean: float, std: float) -> None:
    """Figures of docs/editing.md: two numbers of std 0.5, correlated 0.9; beside 0.5 the other is N(0.45, 0.22^2)."""
    covariance = 0.25 * torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)

    def denoise(x: Tensor, level: Level) -> Tensor:
        noisy = level.alpha**2 * covariance + level.sigma**2 * torch.eye(2, dtype=torch.float64)
        gain: Tensor = torch.linalg.solve(noisy, level.alpha * covariance)
        return x @ gain

    schedule, random = build("schedule", "flow"), generator(0, "inpainting", 0)
    levels = levels_of(schedule, build("grid", "arctan")(schedule, 20))
    known, mask = torch.full((4000, 2), 0.5, dtype=torch.float64), torch.tensor([True, False])

    def randn() -> Tensor:
        return torch.randn(known.shape, generator=random, dtype=torch.float64)

    x = levels[0].mix(torch.where(mask, known, 0.0), randn())
    got = inpaint(build("sampler", "heun"), denoise, x, known, mask, levels, Context(schedule, randn), repeats)[:, 1]
    assert float(got.mean()) == pytest.approx(mean, abs=0.025) and float(got.std()) == pytest.approx(std, abs=0.025)


def test_repeats_take_steps_again_and_forget_what_lies_below() -> None:
    schedule, recorder = SCHEDULES["straight"], Recorder()
    levels = levels_of(schedule, uniform(schedule, 3))
    inpaint(recorder, DATA.denoise, eps(), KNOWN, MASK, levels, context(schedule), repeats=3)
    assert recorder.seen == [(0, 0), (0, 0), (0, 0), (1, 1), (1, 0), (1, 0), (2, 1)]


def test_the_way_back_up_has_the_right_noise() -> None:
    """A step to `then` and back up: x at `now` has mean alpha x0 and standard deviation sigma again."""
    schedule, count = SCHEDULES["table"], 20_000
    first, second = (schedule.at(schedule.t_at(v)) for v in (-1.0, 2.0))
    random = generator(4, "up", 0)
    ups: list[Tensor] = []

    class Spy(Recorder):
        def step(self, denoise: Denoise, x: Tensor, *rest: Any) -> tuple[Tensor, int]:
            ups.append(x)
            return super().step(denoise, x, *rest)

    def randn() -> Tensor:
        return torch.randn((count, 1, 1), generator=random, dtype=torch.float64)

    known = torch.full((1, 1, 1), 0.7, dtype=torch.float64)
    mask = torch.ones(1, 1, 1, dtype=torch.bool)
    start = first.mix(known, randn())
    inpaint(Spy(), lambda x, level: x, start, known, mask, [first, second], Context(schedule, randn), repeats=2)
    again = (ups[1] - first.alpha * known) / first.sigma
    assert float(again.mean()) == pytest.approx(0, abs=0.03) and float(again.std()) == pytest.approx(1, abs=0.02)
    kept = float((again * (start - first.alpha * known) / first.sigma).mean())  # correlation r_then / r_now
    assert kept == pytest.approx(float(second.ratio / first.ratio), abs=0.03)


def test_known_pixels_keep_the_dtype() -> None:
    level = SCHEDULES["straight"].at(0.5)
    assert known_pixels(DATA.denoise, KNOWN, MASK)(eps().float(), level).dtype == torch.float32


# image-to-image


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("strength", [0.1, 0.5, 0.9, 1.0])
def test_strength_is_the_share_of_noise_on_every_schedule_and_grid(name: str, strength: float) -> None:
    schedule = SCHEDULES[name]
    for grid in (uniform, log_snr):
        levels = levels_of(schedule, grid(schedule, 10))
        x, tail = start_from(KNOWN, levels, strength, eps(), schedule)
        share = float(tail[0].sigma / (tail[0].alpha + tail[0].sigma))
        first = float(levels[0].sigma / (levels[0].alpha + levels[0].sigma))
        assert share == pytest.approx(min(strength, first), abs=1e-9)
        assert torch.equal(x, tail[0].mix(KNOWN, eps()))
        cleaner = [level for level in levels if level.sigma / (level.alpha + level.sigma) < share]
        assert tail[1:] == cleaner and tail[-1].sigma == 0


def test_full_strength_walks_the_whole_grid() -> None:
    schedule = SCHEDULES["table"]
    levels = levels_of(schedule, uniform(schedule, 10))
    assert start_from(KNOWN, levels, 1.0, eps(), schedule)[1] == levels


def test_a_little_noise_leaves_the_image_and_much_leaves_the_data() -> None:
    schedule = SCHEDULES["straight"]
    levels = levels_of(schedule, log_snr(schedule, 30))
    away = []
    for strength in (0.02, 0.3, 0.95):
        x, tail = start_from(KNOWN, levels, strength, eps(), schedule)
        got = sample(build("sampler", "heun"), DATA.denoise, x, tail, context(schedule))
        away.append(float((got - KNOWN).square().mean().sqrt()))
    assert away[0] < 0.02 < away[1] < away[2] and away[2] > 0.5


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.01, math.nan])
def test_a_strength_out_of_range_is_refused(strength: float) -> None:
    schedule = SCHEDULES["table"]
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        start_from(KNOWN, levels_of(schedule, uniform(schedule, 4)), strength, eps(), schedule)


def test_a_strength_below_the_cleanest_level_is_refused() -> None:
    schedule = SCHEDULES["table"]
    with pytest.raises(ValueError, match=r"the schedule's least, 0\.0099"):
        start_from(KNOWN, levels_of(schedule, uniform(schedule, 4)), 0.005, eps(), schedule)


def test_no_repeat_and_no_step_are_refused() -> None:
    schedule = SCHEDULES["table"]
    levels = levels_of(schedule, uniform(schedule, 4))
    for repeats, grid, said in ((0, levels, "repeats = 0"), (1, levels[:1], "two levels")):
        with pytest.raises(ValueError, match=said):
            inpaint(build("sampler", "ddim"), DATA.denoise, eps(), KNOWN, MASK, grid, context(schedule), repeats)
