"""The yardsticks themselves: closed-form denoisers against quadrature, the ODE against its closed form."""

import math

import pytest
import torch
from torch import Tensor

from dmf.core import DataSpec, Denoiser, Level, NoiseSchedule, bind, generator, labels_cond, predictions
from dmf.testing import PREDICTIONS, Exploding, Gaussian, LevelOfLabel, Mixture, reference_end, unlike_schedules

SCHEDULES = unlike_schedules()
MIXTURE = Mixture([[-1.0, 0.5], [0.7, -0.2], [0.1, 1.5]], [0.4, 0.3], [0.2, 0.5, 0.3])


def level(schedule: NoiseSchedule, log_snr: float) -> Level:
    return schedule.at(schedule.t_at(log_snr))


@pytest.mark.parametrize("log_snr", [-6.0, -1.0, 0.0, 2.0, 6.0])
def test_posterior_mean_against_quadrature(log_snr: float) -> None:
    """Bayes' rule by brute force: E[x0 | x] = ∫ x0 p(x0) p(x | x0) dx0 / ∫ p(x0) p(x | x0) dx0, in one dimension."""
    means, std, weights = torch.tensor([-1.0, 0.8]), 0.3, torch.tensor([0.35, 0.65])
    at = level(SCHEDULES["straight"], log_snr)
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    x0 = torch.linspace(-5, 5, 200_001, dtype=torch.float64)
    prior = sum(w * torch.exp(-((x0 - m) ** 2) / (2 * std**2)) for m, w in zip(means, weights, strict=True))
    joint = prior * torch.exp(-((x[:, None] - at.alpha * x0) ** 2) / (2 * at.sigma**2))
    want = (joint * x0).sum(1) / joint.sum(1)
    got = Mixture(means[:, None], std, weights.double() / weights.double().sum()).denoise(x[:, None], at)[:, 0]
    torch.testing.assert_close(got, want, rtol=0, atol=1e-7)


def test_denoise_far_away_and_nearly_clean_is_stable() -> None:
    at = level(SCHEDULES["arc"], 20.0)
    got = Mixture([[-1.0], [1.0]], 0.0).denoise(torch.tensor([[1e6], [-1e6], [0.9]], dtype=torch.float64), at)
    assert got.tolist() == [[1.0], [-1.0], [1.0]]


def test_denoise_takes_images_levels_of_their_own_and_keeps_the_dtype() -> None:
    schedule = SCHEDULES["arc"]
    x = torch.randn(3, 1, 2, generator=generator(0, "x", 0))
    t = torch.tensor([0.2, 0.5, 0.9])
    together = MIXTURE.denoise(x, schedule.at(t).per_image(3))
    assert together.shape == x.shape and together.dtype == torch.float32
    for i in range(3):
        assert torch.equal(together[i : i + 1], MIXTURE.denoise(x[i : i + 1], schedule.at(t[i])))


def test_marginal_and_moments_are_those_of_noised_draws() -> None:
    at, random = level(SCHEDULES["straight"], 1.0), generator(0, "draws", 0)
    clean = MIXTURE.draw(200_000, random)
    noised = at.mix(clean, torch.randn(clean.shape, generator=random, dtype=torch.float64))
    drawn = MIXTURE.sample_at(at, 200_000, random)
    for points, law in ((clean, MIXTURE), (noised, MIXTURE.marginal(at)), (drawn, MIXTURE.marginal(at))):
        torch.testing.assert_close(points.mean(0), law.mean(), rtol=0, atol=0.01)
        torch.testing.assert_close(points.T.cov(), law.covariance(), rtol=0, atol=0.01)


def test_gaussian_solution_against_an_independent_solver() -> None:
    data, schedule = Gaussian([0.3, -1.0], [0.5, 0.2]), SCHEDULES["straight"]
    now, then = level(schedule, -6.0), level(schedule, 5.0)
    x = data.sample_at(now, 5, generator(0, "x", 1))
    end = data.solution(x, now, then)
    torch.testing.assert_close(reference_end(data.denoise, x, schedule, now, then), end, rtol=1e-9, atol=1e-9)
    back = data.solution(end, then, now)
    torch.testing.assert_close(back, x, rtol=1e-12, atol=1e-12)


def test_reference_does_not_depend_on_the_schedule_and_refuses_sigma_zero() -> None:
    ends = []
    for schedule in SCHEDULES.values():
        now, then = level(schedule, -5.0), level(schedule, 4.0)
        x = now.alpha * torch.tensor([[8.0, -3.0], [0.5, 11.0]], dtype=torch.float64)
        ends.append(reference_end(MIXTURE.denoise, x, schedule, now, then) / then.alpha)
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=0, atol=1e-8)
    with pytest.raises(ValueError, match="sigma = 0"):
        reference_end(MIXTURE.denoise, x, schedule, now, schedule.clean)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_perfect_network_is_the_exact_denoiser(name: str, prediction: str) -> None:
    schedule, predict = SCHEDULES[name], PREDICTIONS[prediction]
    denoiser = Denoiser(MIXTURE.as_network(schedule, predict, 0.7), schedule, predict, 0.7)
    denoise = bind(denoiser, {}, DataSpec((1, 2)))
    for log_snr in (-8.0, -2.5, 0.0, 3.0, 8.0):
        at = level(schedule, log_snr)
        x = MIXTURE.sample_at(at, 4, generator(0, "x", 2)).reshape(4, 1, 2)
        torch.testing.assert_close(denoise(x, at), MIXTURE.denoise(x, at), rtol=0, atol=1e-10)


def test_a_network_reads_the_label_it_is_told() -> None:
    schedule = SCHEDULES["arc"]
    network = MIXTURE.as_network(schedule, predictions.x0)
    x = torch.ones(2, 1, 2, dtype=torch.float64)
    got = network(x, torch.tensor([300.0, 700.0]), {})
    for i, t in enumerate((0.3, 0.7)):
        torch.testing.assert_close(got[i : i + 1], MIXTURE.denoise(x[i : i + 1], schedule.at(t)), rtol=0, atol=1e-12)


def test_classes_are_moved_and_none_is_not() -> None:
    schedule, spec = SCHEDULES["straight"], DataSpec((1, 2), ("a", "b"))
    network = MIXTURE.as_network(schedule, predictions.v, shifts=[[2.0, 0.0], [0.0, -3.0]])
    at = level(schedule, 1.0)
    x = MIXTURE.sample_at(at, 3, generator(0, "x", 3)).reshape(3, 1, 2)
    cond = {**labels_cond([0, 1], spec), "class": torch.tensor([0, 1, spec.null_class])}
    got = Denoiser(network, schedule, predictions.v)(x, at, cond)
    moved = Mixture(MIXTURE.means + torch.tensor([2.0, 0.0]), MIXTURE.std, MIXTURE.weights)
    torch.testing.assert_close(got[:1], moved.denoise(x[:1], at), rtol=0, atol=1e-11)
    moved = Mixture(MIXTURE.means + torch.tensor([0.0, -3.0]), MIXTURE.std, MIXTURE.weights)
    torch.testing.assert_close(got[1:2], moved.denoise(x[1:2], at), rtol=0, atol=1e-11)
    torch.testing.assert_close(got[2:], MIXTURE.denoise(x[2:], at), rtol=0, atol=1e-11)


class Falling(Exploding):
    def label(self, level: Level) -> Tensor:
        return level.log_snr


@pytest.mark.parametrize("schedule", [*SCHEDULES.values(), Falling()], ids=lambda s: type(s).__name__)
def test_labels_are_read_back(schedule: NoiseSchedule) -> None:
    t = schedule.clip(schedule.t_at(torch.linspace(-7, 7, 15, dtype=torch.float64)))
    read = LevelOfLabel(schedule)(schedule.label(schedule.at(t)))
    torch.testing.assert_close(read.t, t, rtol=1e-12, atol=1e-13)
    ends = torch.tensor(schedule.ends(), dtype=torch.float64)
    beyond = LevelOfLabel(schedule)(schedule.label(schedule.at(ends)) + torch.tensor([1e-4, -1e-4]))
    assert all(min(ends) <= one <= max(ends) for one in beyond.t)


def test_mixtures_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"\(K, D\)"):
        Mixture([1.0, 2.0])  # type: ignore[list-item]
    for weights in ([0.5, 0.6], [1.0]):
        with pytest.raises(ValueError, match="summing to 1"):
            Mixture([[0.0], [1.0]], 0.1, weights)
    assert math.isclose(float(Mixture([[0.0], [1.0]]).mean()), 0.5)
