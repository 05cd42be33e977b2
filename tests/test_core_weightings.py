"""Weightings: their published forms in each loss space, and the same x0 error counting the same everywhere."""

import functools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dmf.core import Cond, Denoiser, Level, LossSpace, NoiseSchedule, Prediction, Weighting, generator, training_loss
from dmf.core import weightings as named
from dmf.core.objectives import Attempt, huber, l1, l2
from dmf.core.predictions import edm, epsilon, flow, v, x0
from dmf.registry import PartError, build, load, parts
from dmf.testing import Arc, Exploding, Straight

SIGMA_DATA = 0.6
SPACES: dict[str, Prediction] = {p.name: load(p) for p in parts("prediction")}
WEIGHTINGS: dict[str, Weighting] = {p.name: load(p) for p in parts("weighting")}
BIASED = functools.partial(named.sigmoid, bias=-1.5)
STRONG = functools.partial(named.p2, k=2.0, gamma=0.5)


class Wide(Exploding):
    """EDM's schedule from log SNR 20 to -20."""

    t_min, t_max = math.exp(-10), math.exp(10)


def levels(schedule: NoiseSchedule, log_snr: list[float]) -> Level:
    """One level an image."""
    return schedule.at(schedule.t_at(torch.tensor(log_snr, dtype=torch.float64))).per_image(3)


def noise_and_images(images: int) -> tuple[Tensor, Tensor, Tensor]:
    """(x0, eps, error), float64."""
    random = generator(0, "images", 0)
    x0, eps, error = torch.randn(3, images, 2, 3, generator=random, dtype=torch.float64)
    return SIGMA_DATA * x0, eps, error


def said(prediction: Prediction, level: Level, x0: Tensor, eps: Tensor) -> Tensor:
    """F*, in the words of the papers."""
    r = level.sigma / level.alpha
    scale = (r**2 + SIGMA_DATA**2).sqrt()
    words: dict[Prediction, Callable[[], Tensor]] = {
        epsilon: lambda: eps,
        SPACES["x0"]: lambda: x0,
        v: lambda: level.alpha * eps - level.sigma * x0,
        flow: lambda: eps - x0,
        # (x0 - c_skip y) / c_out with y = x0 + r eps and Karras et al.'s c_skip, c_out
        edm: lambda: (r * x0 - SIGMA_DATA**2 * eps) / (SIGMA_DATA * scale),
    }
    return words[prediction]()


def weight_of(weighting: Weighting, space: Prediction, level: Level) -> Tensor:
    """The factor on the squared error of ``space``, as the objective gets it, (B,)."""
    seen: list[Attempt] = []

    def objective(attempt: Attempt) -> Tensor:
        seen.append(attempt)
        return l2(attempt)

    x, eps, _ = noise_and_images(len(level.t))
    denoiser = Denoiser(lambda x_in, noise, cond: torch.zeros_like(x_in), Straight(), v, SIGMA_DATA)
    training_loss(denoiser, objective, weighting, x, eps, level, {}, space)
    return seen[0].weight.flatten()


def test_the_functions_are_what_the_packages_give() -> None:
    """Modules of the same names stand beside them."""
    from dmf.core import densities, objectives, weightings

    for package in (weightings, densities, objectives):
        for name in package.__all__:
            assert name[0].isupper() or type(getattr(package, name)).__name__ == "function", (package, name)


# s is the SNR, b the bias; on a schedule with alpha^2 + sigma^2 = 1
PUBLISHED = [
    (named.min_snr, epsilon, lambda s: min(s, 5) / s),  # Hang et al. 2023, section 3.4, all three
    (named.min_snr, v, lambda s: min(s, 5) / (s + 1)),
    (named.min_snr, x0, lambda s: min(s, 5)),
    (functools.partial(named.min_snr, gamma=2.0), x0, lambda s: min(s, 2)),
    (named.p2, epsilon, lambda s: 1 / (1 + s)),  # Choi et al. 2022, equation 8
    (STRONG, epsilon, lambda s: 1 / (2 + s) ** 0.5),
    (STRONG, x0, lambda s: s / (2 + s) ** 0.5),
    (STRONG, v, lambda s: s / (s + 1) / (2 + s) ** 0.5),
    (named.snr, epsilon, lambda s: 1),
    (named.snr, x0, lambda s: s),  # Salimans & Ho 2022, section 4
    (named.snr, v, lambda s: s / (s + 1)),
    (named.uniform, epsilon, lambda s: 1),
    (named.uniform, x0, lambda s: 1),
    (named.uniform, v, lambda s: 1),
    (named.uniform, flow, lambda s: 1),
    (named.uniform, edm, lambda s: 1),
    (named.edm, edm, lambda s: 1),  # Karras et al. 2022, appendix B.6: lambda c_out^2 = 1
    (named.edm, x0, lambda s: (1 / s + SIGMA_DATA**2) / (s**-0.5 * SIGMA_DATA) ** 2),  # its table 1
    (named.edm, epsilon, lambda s: (1 / s + SIGMA_DATA**2) / SIGMA_DATA**2),
    (BIASED, epsilon, lambda s: 1 / (1 + s * math.exp(1.5))),  # Kingma & Gao 2023: sigmoid(b - log SNR)
    (BIASED, x0, lambda s: s / (1 + s * math.exp(1.5))),
    (BIASED, v, lambda s: s / (s + 1) / (1 + s * math.exp(1.5))),
]


def name_of(value: object) -> str:
    return str(getattr(getattr(value, "func", value), "__name__", value))


@pytest.mark.parametrize(("weighting", "space", "form"), PUBLISHED, ids=name_of)
def test_published_forms(weighting: Weighting, space: Prediction, form: Callable[[float], float]) -> None:
    log_snr = [-12.0, -5.0, -1.0, 0.0, 0.5, 1.7, 6.0, 13.0]
    got = weight_of(weighting, space, levels(Arc(), log_snr)).tolist()
    assert got == pytest.approx([form(math.exp(at)) for at in log_snr], rel=1e-9)


def test_v_and_flow_on_other_schedules() -> None:
    """alpha and sigma have their say there: c_out = -sigma / (alpha + sigma), -sigma / (alpha^2 + sigma^2)."""
    level = levels(Straight(), [-3.0, 0.4, 2.0])
    alpha, sigma = level.alpha.flatten(), level.sigma.flatten()
    low = (alpha / sigma).square().clamp(max=5)
    torch.testing.assert_close(weight_of(named.min_snr, flow, level), low * sigma**2)
    torch.testing.assert_close(weight_of(named.min_snr, v, level), low * (sigma / (alpha**2 + sigma**2)) ** 2)


@pytest.mark.parametrize("name", sorted(set(WEIGHTINGS) - {"uniform"}))
def test_they_depend_on_the_log_snr_alone(name: str) -> None:
    log_snr = [-7.0, -1.0, 0.0, 3.0, 7.0]
    found = [
        WEIGHTINGS[name](level, LossSpace(*space(level, SIGMA_DATA)[1:], SIGMA_DATA))
        for level in (levels(schedule, log_snr) for schedule in (Arc(), Straight(), Exploding()))
        for space in SPACES.values()
    ]
    for one in found[1:]:
        torch.testing.assert_close(one, found[0], rtol=1e-9, atol=0)


# the factor on the squared x0 error, written once more, from lambda = log SNR; uniform is 1 / c_out^2 of the space
ON_X0: dict[str, Callable[[float], float]] = {
    "snr": lambda at: math.exp(at),
    "min_snr": lambda at: min(math.exp(at), 5),
    "p2": lambda at: math.exp(at) / (1 + math.exp(at)),
    "edm": lambda at: math.exp(at) + 1 / SIGMA_DATA**2,
    "sigmoid": lambda at: 1 / (1 + math.exp(-at)),
}
ENDS = [-20.0, -19.0, -6.0, 0.0, 6.0, 19.0, 20.0]


def c_out(space: str, schedule: NoiseSchedule, at: float) -> float:
    """|d x0_hat / dF| by plain arithmetic."""
    r = math.exp(-at / 2)
    alpha = {Arc: (1 + r * r) ** -0.5, Straight: 1 / (1 + r), Wide: 1.0}[type(schedule)]
    sigma = r * alpha
    return {
        "epsilon": r,
        "x0": 1.0,
        "v": sigma / (alpha**2 + sigma**2),
        "flow": sigma / (alpha + sigma),
        "edm": r * SIGMA_DATA / (r * r + SIGMA_DATA**2) ** 0.5,
    }[space]


@pytest.mark.parametrize("schedule", [Arc(), Straight(), Wide()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("prediction", SPACES)
def test_the_loss_and_its_gradient_are_those_of_the_x0_error_to_both_ends(
    prediction: str, weighting: str, schedule: NoiseSchedule
) -> None:
    """In every loss space, in float32 too, where F' itself would be a difference of equals: PITFALLS 6."""
    level, (x, eps, error) = levels(schedule, ENDS), noise_and_images(len(ENDS))
    true = said(SPACES[prediction], level, x, eps)
    error = error * true.abs().amax((1, 2), keepdim=True).clamp(min=1)  # v is huge where noise explodes
    for space in SPACES:
        out = [c_out(prediction, schedule, at) for at in ENDS]
        on_x0 = ON_X0.get(weighting, lambda at, space=space: c_out(space, schedule, at) ** -2)
        factor = torch.tensor([on_x0(at) * c**2 for at, c in zip(ENDS, out, strict=True)], dtype=torch.float64)
        for dtype, rtol in ((torch.float32, 2e-6), (torch.float64, 1e-8)):
            network = (true + error).to(dtype).requires_grad_()
            denoiser = Denoiser(lambda x_in, noise, cond, f=network: f, schedule, SPACES[prediction], SIGMA_DATA)
            arguments = (x.to(dtype), eps.to(dtype), level, {}, SPACES[space])
            loss = training_loss(denoiser, l2, WEIGHTINGS[weighting], *arguments)
            assert loss.dtype == dtype and loss.isfinite().all()
            torch.testing.assert_close(loss.double(), factor * error.square().mean((1, 2)), rtol=rtol, atol=0)
            loss.sum().backward()
            want = 2 * factor.reshape(-1, 1, 1) * error / error[0].numel()
            assert network.grad is not None
            size = want.abs().amax((1, 2), keepdim=True)
            torch.testing.assert_close(network.grad.double() / size, want / size, rtol=0, atol=rtol)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("prediction", SPACES)
def test_the_loss_space_is_where_the_error_is_taken(prediction: str, space: str) -> None:
    """x0_hat from the network, F' from x0_hat: by the long way, at levels where that keeps its digits."""
    schedule, log_snr = Straight(), [-4.0, -1.0, 0.0, 2.5, 4.0]
    level, (x, eps, answer) = levels(schedule, log_snr), noise_and_images(len(log_snr))
    denoiser = Denoiser(lambda x_in, noise, cond: answer, schedule, SPACES[prediction], SIGMA_DATA)
    noised = level.mix(x, eps)
    there = SPACES[space](level, SIGMA_DATA)
    output = (denoiser(noised, level, {}) - there.c_skip * noised) / there.c_out
    target = said(SPACES[space], level, x, eps)
    seen: list[Attempt] = []

    def objective(attempt: Attempt) -> Tensor:
        seen.append(attempt)
        return l2(attempt)

    losses = training_loss(denoiser, objective, named.uniform, x, eps, level, {}, SPACES[space])
    torch.testing.assert_close(losses, (output - target).square().mean((1, 2)), rtol=1e-9, atol=0)
    (attempt,) = seen
    torch.testing.assert_close(attempt.output, output, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(attempt.target, target, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(attempt.error, output - target, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(attempt.weight, torch.ones_like(attempt.weight), rtol=1e-12, atol=0)
    absolute = training_loss(denoiser, l1, named.uniform, x, eps, level, {}, SPACES[space])
    torch.testing.assert_close(absolute, (output - target).abs().mean((1, 2)), rtol=1e-9, atol=0)


@pytest.mark.parametrize("prediction", SPACES)
@pytest.mark.parametrize("objective", [l2, l1, huber], ids=name_of)
def test_the_networks_own_space_is_the_default_to_the_last_bit(
    prediction: str, objective: Callable[..., Tensor]
) -> None:
    level, (x, eps, answer) = levels(Arc(), ENDS), noise_and_images(len(ENDS))
    answer = answer.float()

    def network(x_in: Tensor, noise: Tensor, cond: Cond) -> Tensor:
        return answer

    denoiser = Denoiser(network, Arc(), SPACES[prediction], SIGMA_DATA)
    for weighting in WEIGHTINGS.values():
        given = (objective, weighting, x.float(), eps.float(), level, {})
        assert torch.equal(training_loss(denoiser, *given), training_loss(denoiser, *given, SPACES[prediction]))


@pytest.mark.parametrize(
    ("name", "options"),
    [("min_snr", {"gamma": 0}), ("p2", {"k": 0}), ("p2", {"gamma": -1}), ("sigmoid", {"bias": 21}), ("snr", {"k": 1})],
)
def test_options_that_cannot_be(name: str, options: dict[str, float]) -> None:
    with pytest.raises(PartError, match=f"weighting '{name}'"):
        build("weighting", name, **options)
