"""The five predictions: each against its own paper's words, and all against each other."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dmf.core import Cond, Denoiser, Level, NoiseSchedule, Prediction, generator, predictions, training_loss
from dmf.core.objectives import Attempt, l1, l2
from dmf.core.weightings import uniform
from dmf.registry import build, load, parts
from dmf.testing import Straight, unlike_schedules

SCHEDULES: dict[str, NoiseSchedule] = {p.name: build("schedule", p.name) for p in parts("schedule")}
SCHEDULES |= unlike_schedules()
PREDICTIONS: dict[str, Prediction] = {p.name: load(p) for p in parts("prediction")}
SIGMA_DATA = 0.6

# what the network is to say, in each paper's own words
TARGETS: dict[str, Callable[[Tensor, Tensor, Level], Tensor]] = {
    "epsilon": lambda x0, eps, at: eps,
    "x0": lambda x0, eps, at: x0,
    "v": lambda x0, eps, at: at.alpha * eps - at.sigma * x0,
    "flow": lambda x0, eps, at: eps - x0,
}


def pair(images: int = 4) -> tuple[Tensor, Tensor]:
    random = generator(0, "pair", 0)
    x0 = SIGMA_DATA * torch.randn(images, 2, 3, generator=random, dtype=torch.float64)
    return x0, torch.randn(x0.shape, generator=random, dtype=torch.float64)


def levels(schedule: NoiseSchedule, images: int = 4) -> Level:
    """One level an image, from the noisiest to the cleanest end."""
    noisiest, cleanest = schedule.ends()
    t = schedule.clip(schedule.t_at(torch.linspace(-20, 20, images, dtype=torch.float64)))
    assert cleanest <= float(t.min()) and float(t.max()) <= noisiest
    return schedule.at(t).per_image(3)


def attempt_of(prediction: Prediction, schedule: NoiseSchedule, level: Level, x0: Tensor, eps: Tensor) -> Attempt:
    """What the objective gets to see when the network says 0."""
    seen: list[Attempt] = []

    def silent(x: Tensor, noise: Tensor, cond: Cond) -> Tensor:
        return torch.zeros_like(x)

    def objective(attempt: Attempt) -> Tensor:
        seen.append(attempt)
        return l2(attempt)

    training_loss(Denoiser(silent, schedule, prediction, SIGMA_DATA), objective, uniform, x0, eps, level, {})
    return seen[0]


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", PREDICTIONS)
def test_target_then_denoise_gives_x0(name: str, schedule: NoiseSchedule) -> None:
    (x0, eps), level = pair(9), levels(schedule, 9)
    target = attempt_of(PREDICTIONS[name], schedule, level, x0, eps).target
    denoiser = Denoiser(lambda x, noise, cond: target, schedule, PREDICTIONS[name], SIGMA_DATA)
    torch.testing.assert_close(denoiser(level.mix(x0, eps), level, {}), x0, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_targets_are_those_of_the_papers(name: str, schedule: NoiseSchedule) -> None:
    (x0, eps), level = pair(), levels(schedule)
    got = attempt_of(PREDICTIONS[name], schedule, level, x0, eps).target
    torch.testing.assert_close(got, TARGETS[name](x0, eps, level), rtol=1e-9, atol=1e-9)


def test_edm_is_table_1_of_karras() -> None:
    """c_skip, c_out, c_in of the paper in y = x / alpha; unit variance in and out."""
    for schedule in SCHEDULES.values():
        level = levels(schedule, 7)
        r = level.sigma / level.alpha
        c = predictions.edm(level, SIGMA_DATA)
        torch.testing.assert_close(c.c_skip * level.alpha, SIGMA_DATA**2 / (r**2 + SIGMA_DATA**2))
        torch.testing.assert_close(c.c_out, r * SIGMA_DATA / (SIGMA_DATA**2 + r**2).sqrt())
        torch.testing.assert_close(c.c_in * level.alpha, 1 / (SIGMA_DATA**2 + r**2).sqrt())
    random = generator(0, "variance", 0)
    x0 = SIGMA_DATA * torch.randn(100_000, 1, 1, generator=random, dtype=torch.float64)
    eps = torch.randn(x0.shape, generator=random, dtype=torch.float64)
    for log_snr in (-6.0, 0.0, 6.0):
        one = SCHEDULES["flow"].at(SCHEDULES["flow"].t_at(log_snr))
        attempt = attempt_of(predictions.edm, SCHEDULES["flow"], one, x0, eps)
        assert abs(float(attempt.target.var()) - 1) < 0.02
        assert abs(float((predictions.edm(one, SIGMA_DATA).c_in * attempt.x).var()) - 1) < 0.02


@pytest.mark.parametrize("name", PREDICTIONS)
def test_targets_keep_their_digits_in_float32(name: str) -> None:
    """Near the clean end x0 - c_skip x is a difference of equals: formed in float32 it would be wrong by 1e-3."""
    for schedule in (SCHEDULES["flow"], SCHEDULES["cosine"]):
        (x0, eps), level = pair(9), levels(schedule, 9)
        want = attempt_of(PREDICTIONS[name], schedule, level, x0, eps).target
        got = attempt_of(PREDICTIONS[name], schedule, level, x0.float(), eps.float()).target
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_uniform_weighting_is_the_plain_error_of_what_is_predicted(name: str, schedule: NoiseSchedule) -> None:
    (x0, eps), level = pair(), levels(schedule)
    said = torch.randn(x0.shape, generator=generator(0, "said", 0), dtype=torch.float64)
    denoiser = Denoiser(lambda x, noise, cond: said, schedule, PREDICTIONS[name], SIGMA_DATA)
    target = attempt_of(PREDICTIONS[name], schedule, level, x0, eps).target
    got = training_loss(denoiser, l2, uniform, x0, eps, level, {})
    torch.testing.assert_close(got, ((said - target) ** 2).mean((1, 2)), rtol=1e-12, atol=0)
    got = training_loss(denoiser, l1, uniform, x0, eps, level, {})
    torch.testing.assert_close(got, (said - target).abs().mean((1, 2)), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_a_weighting_means_the_same_for_every_prediction(name: str) -> None:
    """A factor w on the squared error of x0_hat, whatever the network says: the bug that DESIGN's weighting avoids."""
    schedule = SCHEDULES["cosine"]
    (x0, eps), level = pair(), schedule.at(torch.tensor([0.1, 0.4, 0.7, 0.9])).per_image(3)
    guess = torch.randn(x0.shape, generator=generator(0, "guess", 0), dtype=torch.float64)
    x, c = level.mix(x0, eps), PREDICTIONS[name](level, SIGMA_DATA)
    denoiser = Denoiser(lambda x_in, noise, cond: (guess - c.c_skip * x) / c.c_out, schedule, PREDICTIONS[name], 0.6)
    factor = 1 + level.sigma.flatten()
    got = training_loss(denoiser, l2, lambda at, coefficients: 1 + at.sigma, x0, eps, level, {})
    torch.testing.assert_close(got, factor * ((guess - x0) ** 2).mean((1, 2)), rtol=1e-9, atol=0)
    got = training_loss(denoiser, l1, lambda at, coefficients: 1 + at.sigma, x0, eps, level, {})
    torch.testing.assert_close(got, factor.sqrt() * (guess - x0).abs().mean((1, 2)), rtol=1e-9, atol=0)


def test_what_the_network_and_the_objective_are_given() -> None:
    schedule, spec_channels = SCHEDULES["linear"], 2
    (x0, eps), t = pair(), torch.tensor([0.001, 0.25, 0.5, 1.0], dtype=torch.float64)
    level = schedule.at(t).per_image(3)
    asked: list[tuple[Tensor, Tensor, Cond]] = []

    def network(x: Tensor, noise: Tensor, cond: Cond) -> Tensor:
        asked.append((x, noise, cond))
        return torch.cat([x, 7 * torch.ones_like(x[:, :1])], dim=1)

    seen: list[Attempt] = []

    def objective(attempt: Attempt) -> Tensor:
        seen.append(attempt)
        return l2(attempt)

    cond = {"class": torch.tensor([0, 1, 2, 3])}
    losses = training_loss(
        Denoiser(network, schedule, predictions.edm, 0.5), objective, uniform, x0.float(), eps.float(), level, cond
    )
    (x_in, noise, given), attempt = asked[0], seen[0]
    assert losses.shape == (4,) and losses.dtype == torch.float32
    assert x_in.dtype == torch.float32 and noise.dtype == torch.float32 and given is cond and attempt.cond is cond
    assert noise.tolist() == [0.0, 249.0, 499.0, 999.0]
    torch.testing.assert_close(x_in, (predictions.edm(level, 0.5).c_in * level.mix(x0, eps)).float())
    torch.testing.assert_close(attempt.x, level.mix(x0, eps).float())
    assert attempt.output.shape[1] == spec_channels and torch.equal(attempt.extras, torch.full((4, 1, 3), 7.0))


def test_labels_follow_the_precision_of_x() -> None:
    got: list[torch.dtype] = []

    def network(x: Tensor, noise: Tensor, cond: Cond) -> Tensor:
        got.append(noise.dtype)
        return x.float()

    denoiser = Denoiser(network, Straight(), predictions.v)
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        out = denoiser(torch.ones(2, 1, 1, dtype=dtype), Straight().at(0.3), {})
        assert out.dtype == dtype
    assert got == [torch.float32, torch.float32, torch.float64]


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1), (3, 1, 1)])
def test_every_image_is_told_its_level(shape: tuple[int, ...]) -> None:
    got: list[Tensor] = []

    def network(x: Tensor, noise: Tensor, cond: Cond) -> Tensor:
        got.append(noise)
        return x

    Denoiser(network, Straight(), predictions.v).raw(torch.ones(3, 1, 1), Straight().at(torch.full(shape, 0.25)), {})
    assert got[0].tolist() == [250.0] * 3


def test_extra_channels_are_not_part_of_the_image() -> None:
    x = torch.ones(2, 1, 3)
    level = Straight().at(0.5)
    extended = Denoiser(lambda x, noise, cond: torch.cat([3 * x, 5 * x, 7 * x], 1), Straight(), predictions.x0)
    assert torch.equal(extended(x, level, {}), 3 * x)
    assert extended.raw(x, level, {}).shape == (2, 3, 3)
