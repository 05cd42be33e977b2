"""Likelihood: against exact log densities, exact probabilities of grey levels, and over schedules and predictions."""

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from dmf.core import (
    Codec,
    DataSpec,
    Denoise,
    Denoiser,
    ImageStreams,
    Level,
    NoiseSchedule,
    Pixels,
    bind,
    bits_per_dim,
    generator,
    log_density,
)
from dmf.core.bits import _summed_up
from dmf.registry import build
from dmf.testing import PREDICTIONS, Gaussian, LevelOfLabel, Mixture, unlike_schedules

SCHEDULES = unlike_schedules()
# narrow, its mean zero: the prior N(0, r^2) is off by mean / r and (std / r)^2, the model's fault, not the integral's
THREE = Mixture([[-0.5, 0.25, 0.1], [0.4, -0.35, -0.05], [0.1, 0.1, -0.05]], 0.2)
TWO = Gaussian([0.0, 0.0], [0.5, 0.2])
SPEC = DataSpec((1, 1, 3))


def at_clean_end(data: Mixture, schedule: NoiseSchedule) -> Mixture:
    """What the ODE ends in: the data under the cleanest level's noise."""
    r = schedule.at(schedule.ends()[1]).ratio
    return data.marginal(Level(r, torch.ones_like(r), r))


def points(data: Mixture, count: int = 16) -> Tensor:
    return data.draw(count, generator(0, "likelihood", 0))


@pytest.mark.parametrize("data", [THREE, TWO, Gaussian([0.0], 0.3)], ids=["mixture", "gaussian", "one dimension"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_exact_trace_gives_the_exact_density(name: str, data: Mixture) -> None:
    x0, schedule = points(data), SCHEDULES[name]
    got = log_density(data.denoise, x0, schedule, steps=100)
    want = at_clean_end(data, schedule).log_density(x0)
    assert got.shape == (1, 16)
    assert float((got[0] - want).abs().max()) / data.dim < 1e-4


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_density_is_that_of_the_model_with_its_prior(name: str) -> None:
    """The flow of a Gaussian is known: a point keeps its place; its density is the prior's there, and the stretch."""
    data, schedule = Gaussian([0.7, -0.4], [1.5, 0.2]), SCHEDULES[name]
    x0 = points(data)
    frames = []
    for t in schedule.ends():
        r = schedule.at(t).ratio
        frames.append(Level(r, torch.ones_like(r), r))
    noisiest, cleanest = frames
    end = data.solution(x0, cleanest, noisiest)
    stretch = (data.marginal(noisiest).std / data.marginal(cleanest).std).log().sum()
    want = torch.distributions.Normal(0, noisiest.ratio).log_prob(end).sum(1) + stretch
    assert torch.allclose(log_density(data.denoise, x0, schedule, steps=100)[0], want, atol=1e-5, rtol=0)


def test_the_log_density_of_a_mixture_sums_to_one_and_is_that_of_scipy() -> None:
    from scipy.stats import norm

    x = torch.linspace(-6, 6, 4001, dtype=torch.float64)[:, None]
    mixture = Mixture([[-1.0], [2.0]], 0.4, [0.3, 0.7])
    by_hand = 0.3 * norm.pdf(x[:, 0], -1, 0.4) + 0.7 * norm.pdf(x[:, 0], 2, 0.4)
    assert torch.allclose(mixture.log_density(x).exp(), torch.from_numpy(by_hand), atol=1e-12)


def test_the_order_is_four() -> None:
    """At least: the integrand vanishes at both ends, where such sums do better than their order."""
    x0, schedule = points(THREE, 4), SCHEDULES["straight"]
    end, few, many = (log_density(THREE.denoise, x0, schedule, steps=n)[0] for n in (480, 60, 120))
    assert float((few - end).abs().max() / (many - end).abs().max()) > 12


def test_probes_are_unbiased_and_their_error_bar_covers_the_truth() -> None:
    """95 % intervals of 16 probes, by Student's t with 15 degrees of freedom, over 300 points."""
    x0, schedule = points(THREE, 300), SCHEDULES["straight"]
    signs = torch.randint(0, 2, (16, 300, 3), generator=generator(0, "probes", 0)).double() * 2 - 1
    got = log_density(THREE.denoise, x0, schedule, signs, steps=40)
    want = log_density(THREE.denoise, x0, schedule, steps=40)[0]
    bar = got.std(0) / 4
    assert bar.min() > 1e-3  # or nothing is tested
    assert 0.91 < ((got.mean(0) - want).abs() < 2.131 * bar).double().mean() < 0.985
    assert float((got - want).mean().abs()) < 3 * float((got - want).std()) / math.sqrt(got.numel())


def test_predictions_do_not_matter() -> None:
    schedule = SCHEDULES["arc"]
    x0, level_of = points(THREE, 4).reshape(4, 1, 1, 3), LevelOfLabel(schedule)
    want = log_density(THREE.denoise, x0, schedule, steps=20)
    for name, prediction in PREDICTIONS.items():
        network = THREE.as_network(schedule, prediction, level_of=level_of)
        denoise = bind(Denoiser(network, schedule, prediction), {}, SPEC)
        assert torch.allclose(log_density(denoise, x0, schedule, steps=20), want, atol=1e-8), name


def test_schedules_do_not_matter() -> None:
    """Those that reach log SNR +-20 have one answer."""
    x0 = points(THREE)
    found = [log_density(THREE.denoise, x0, SCHEDULES[name], steps=40) for name in ("straight", "arc")]
    assert torch.allclose(*found, atol=1e-9)


def test_the_width_that_is_assumed_changes_the_steps_that_are_needed_and_nothing_else() -> None:
    x0, schedule = points(THREE), SCHEDULES["straight"]
    one, other = (log_density(THREE.denoise, x0, schedule, steps=80, sigma_data=s) for s in (0.5, 0.8))
    assert torch.allclose(one, other, atol=1e-4)


# bits


def streams(count: int, first: int = 0, dtype: torch.dtype = torch.float32) -> ImageStreams:
    return ImageStreams(0, range(first, first + count), SPEC.shape, dtype=dtype)


def test_bits_are_those_of_the_grey_levels_probabilities() -> None:
    """For a Gaussian P(k) is a difference of distribution functions; the bound is tight where it is wide."""
    model = Gaussian([0.1, -0.2, 0.3], [0.3, 0.5, 0.2])
    images = torch.tensor([[[[0, 100, 255]]], [[[128, 127, 200]]]], dtype=torch.uint8)
    schedule = SCHEDULES["straight"]
    got = bits_per_dim(model.denoise, images, Pixels(SPEC), schedule, streams(2), probes=0, draws=10, steps=25)
    edges = torch.stack([images - 0.5, images + 0.5]) / 127.5 - 1  # all x that decode to the image
    below, above = torch.special.ndtr((edges.double() - model.means.view(3)) / model.std.view(3))
    want = -torch.log2(above - below).flatten(1).mean(1)
    assert torch.allclose(got.per_image, want, atol=4 * float(got.error.max()) + 1e-3)
    assert got.error.max() < 0.02


def test_a_table_that_ends_at_its_first_beta_cannot_go_below_its_noise() -> None:
    """Data of one point: the model's narrowest density has the standard deviation r_1 = 0.01, and costs 1.71 bits."""
    table: NoiseSchedule = build("schedule", "linear")
    point = Gaussian([1 / 127.5 - 1] * 3, 0.0)
    images = torch.full((1, 1, 1, 3), 1, dtype=torch.uint8)
    got = bits_per_dim(point.denoise, images, Pixels(SPEC), table, streams(1), probes=0, draws=20, steps=20)
    r = 0.01
    want = math.log2(127.5 * math.sqrt(2 * math.pi) * r) + (1 / 127.5 / r) ** 2 / 24 * math.log2(math.e)
    assert want == pytest.approx(1.71, abs=0.01)
    assert float(got.per_image) == pytest.approx(want, abs=0.02)


def test_an_image_has_its_bits_in_any_batch() -> None:
    images = torch.randint(0, 256, (4, 1, 1, 3), generator=generator(0, "bits", 0)).to(torch.uint8)
    codec, schedule = Pixels(SPEC), SCHEDULES["straight"]

    def bits(part: slice) -> Tensor:
        first, count = part.start, part.stop - part.start
        return bits_per_dim(THREE.denoise, images[part], codec, schedule, streams(count, first), 2, 2, 10).per_image

    whole = bits(slice(0, 4))
    assert torch.allclose(torch.cat([bits(slice(0, 1)), bits(slice(1, 4))]), whole, atol=1e-6)


def test_float32_is_near_float64() -> None:
    images = torch.randint(100, 156, (4, 1, 1, 3), generator=generator(0, "bits", 1)).to(torch.uint8)
    x0 = Pixels(SPEC).encode(images)
    single, double = (
        log_density(THREE.denoise, x0.to(d), SCHEDULES["straight"]) for d in (torch.float32, torch.double)
    )
    assert single.dtype == torch.float64 and torch.allclose(single, double, atol=1e-3)


def test_the_error_is_that_of_the_draws_or_of_the_probes() -> None:
    images, codec, schedule = torch.zeros(2, 1, 1, 3, dtype=torch.uint8), Pixels(SPEC), SCHEDULES["straight"]

    def error(probes: int, draws: int) -> Tensor:
        return bits_per_dim(THREE.denoise, images, codec, schedule, streams(2), probes, draws, 10).error

    assert error(1, 1).isnan().all() and error(0, 1).isnan().all()
    assert (error(4, 1) > 0).all() and (error(0, 4) > 0).all()


def test_probes_of_one_draw_are_not_independent() -> None:
    """Two draws of three probes are two numbers, not six: 2 and 4, whose mean has the error (4 - 2) / 2."""
    rows = [torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[3.0], [4.0], [5.0]])]
    assert _summed_up(rows) == (torch.tensor([3.0]), torch.tensor([1.0]))
    assert float(_summed_up(rows[:1]).error) == pytest.approx(1 / math.sqrt(3))


class Squared(Codec):
    """Not affine."""

    def encode(self, images: Tensor) -> Tensor:
        return (images / 255) ** 2

    def decode(self, x: Tensor) -> Tensor:
        return (x.sqrt() * 255).to(torch.uint8)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"codec": Squared(SPEC)}, "Squared is not affine"),
        ({"probes": -1}, "probes >= 0"),
        ({"draws": 0}, "draws >= 1"),
        ({"steps": 0}, "at least one step"),
    ],
)
def test_mistakes_are_refused(options: Mapping[str, object], said: str) -> None:
    images = torch.zeros(1, 1, 1, 3, dtype=torch.uint8)
    denoise: Denoise = THREE.denoise
    given = {"codec": Pixels(SPEC), **options}
    with pytest.raises(ValueError, match=said):
        bits_per_dim(denoise, images, schedule=SCHEDULES["straight"], streams=streams(1), **given)  # type: ignore[arg-type]


def test_probes_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="like x0"):
        log_density(THREE.denoise, points(THREE, 4), SCHEDULES["straight"], torch.ones(2, 5, 3))


def test_the_codecs_grey_level_is_its_own() -> None:
    codec = Pixels(SPEC)
    x = codec.encode(torch.tensor([[[[0, 1, 255]]]], dtype=torch.uint8)).flatten()
    assert codec.grey_level == pytest.approx(float(x[1] - x[0])) == pytest.approx(float(x[2] - x[0]) / 255)
