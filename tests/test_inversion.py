"""Encoding: `encode`, then `sample`, returns the image, as nearly as the sampler's order has it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from dmf.core import Context, Counted, Level, Sampler, encode, generator, levels_of, sample
from dmf.core.grids import log_snr
from dmf.registry import build, parts
from dmf.testing import Gaussian, Mixture, reference_end, unlike_schedules

SCHEDULE = unlike_schedules()["straight"]
BLOBS = Mixture([[-1.0, -0.5], [0.2, 0.9], [1.0, -0.3]], 0.5, [0.3, 0.3, 0.4])
X0 = BLOBS.draw(8, generator(0, "encoding", 0)).reshape(8, 1, 2)
NAMES = [part.name for part in parts("sampler") if part.distribution == "dmf"]
DETERMINISTIC = [name for name in NAMES if not build("sampler", name).stochastic]


def grid(steps: int) -> list[Level]:
    return levels_of(SCHEDULE, log_snr(SCHEDULE, steps))


def no_noise() -> Tensor:
    raise AssertionError("encoding draws no random numbers")


def context() -> Context:
    return Context(SCHEDULE, no_noise)


def there_and_back(sampler: Sampler[Any], steps: int) -> float:
    """Root-mean-square distance from the image."""
    x = encode(sampler, BLOBS.denoise, X0, grid(steps), context())
    back = sample(sampler, BLOBS.denoise, x, grid(steps), context())
    return float((back - X0).square().mean().sqrt())


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_there_and_back_with_the_order_of_the_method(name: str) -> None:
    """Of orders above 2 the second shows: a multistep method begins with lower orders at the clean end."""
    sampler = build("sampler", name)
    few, many = there_and_back(sampler, 20), there_and_back(sampler, 40)
    if sampler.order is None:  # it chooses its own steps
        assert max(few, many) < 1e-2
    else:
        assert few < 0.3 and few / many > 0.85 * 2 ** min(sampler.order, 2)


@pytest.mark.parametrize("name", [n for n in DETERMINISTIC if build("sampler", n).evaluations is None])
def test_an_adaptive_sampler_comes_back_to_its_tolerance(name: str) -> None:
    errors = []
    for tolerance in (1e-3, 1e-5, 1e-7):
        errors.append(there_and_back(build("sampler", name, rtol=tolerance, atol=tolerance), 4))
        assert errors[-1] < 100 * tolerance
    assert errors[2] < errors[0] / 100


@pytest.mark.parametrize("name", [n for n in DETERMINISTIC if n in ("heun", "rk45")])
def test_the_noise_is_that_of_the_exact_ode(name: str) -> None:
    """Somebody else's solver, upwards from the cleanest level."""
    levels = grid(160 if name == "heun" else 10)
    got = encode(build("sampler", name), BLOBS.denoise, X0, levels, context())
    clean = levels[-2]
    x = sample(build("sampler", name), BLOBS.denoise, got, levels[:-1], context())  # undone as far as the cleanest
    want = reference_end(BLOBS.denoise, x, SCHEDULE, clean, levels[0])
    assert float((got - want).abs().max()) < 2e-3


def test_a_gaussians_noise_is_known() -> None:
    data = Gaussian([0.3, -0.2], 0.4)
    levels = grid(300)
    got = encode(build("sampler", "heun"), data.denoise, X0, levels, context())
    clean = levels[-2]
    # x0_hat(y) = x0 at the cleanest level, solved by hand: x0_hat = mean + s^2 / (s^2 + r^2) (y - mean)
    y = data.means.view(1, 1, 2) + (X0 - data.means.view(1, 1, 2)) * (0.4**2 + clean.ratio**2) / 0.4**2
    want = data.solution(clean.alpha * y, clean, levels[0])
    assert float((got - want).abs().max()) < 1e-3


def test_an_image_has_its_noise_in_any_batch() -> None:
    heun, levels = build("sampler", "heun"), grid(10)
    whole = encode(heun, BLOBS.denoise, X0, levels, context())
    parted = [encode(heun, BLOBS.denoise, X0[part], levels, context()) for part in (slice(0, 3), slice(3, 8))]
    assert float((torch.cat(parted) - whole).abs().max()) < 1e-12


def test_a_bright_neighbour_does_not_make_an_image_coarser() -> None:
    def denoise(x: Tensor, level: Level) -> Tensor:
        return torch.cat([BLOBS.denoise(x[:8], level), x[8:] / level.alpha])

    heun, levels, bright = build("sampler", "heun"), grid(10), torch.full((1, *X0.shape[1:]), 100.0)
    whole = encode(heun, denoise, torch.cat([X0.float(), bright]), levels, context())
    assert torch.equal(whole[:8], encode(heun, BLOBS.denoise, X0.float(), levels, context()))


def test_the_cost_is_the_samplers_and_a_few() -> None:
    denoise = Counted(BLOBS.denoise)
    encode(build("sampler", "heun"), denoise, X0, grid(10), context())
    assert 18 < denoise.calls < 30


def test_float32_stays_float32() -> None:
    heun = build("sampler", "heun")
    got = encode(heun, BLOBS.denoise, X0.float(), grid(10), context())
    assert got.dtype == torch.float32
    want = encode(heun, BLOBS.denoise, X0, grid(10), context())
    assert float((got - want).abs().max()) < 1e-4


@pytest.mark.parametrize("name", [n for n in NAMES if n not in DETERMINISTIC])
def test_stochastic_samplers_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"draws random numbers.*rk45"):
        encode(build("sampler", name), BLOBS.denoise, X0, grid(10), context())


def test_so_is_churn() -> None:
    with pytest.raises(ValueError, match="Heun draws random numbers"):
        encode(build("sampler", "heun", churn=4.0), BLOBS.denoise, X0, grid(10), context())


def test_a_single_step_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two steps"):
        encode(build("sampler", "heun"), BLOBS.denoise, X0, grid(1), context())


def test_an_image_that_no_x_gives_is_named() -> None:
    """The data are one point: no other image can be denoised to."""
    point = Gaussian([0.3, -0.7], 0.0)
    x0 = torch.tensor([[0.3, -0.7], [0.3, 0.7]], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"image 1: .* than 1\.4 .* cleaner level"):
        encode(build("sampler", "heun"), point.denoise, x0, grid(10), context())


def test_a_last_step_that_is_too_long_is_named() -> None:
    levels = levels_of(SCHEDULE, log_snr(SCHEDULE, 5, sigma_min=5.0))
    with pytest.raises(ValueError, match="cleaner level"):
        encode(build("sampler", "heun"), BLOBS.denoise, 3 * X0, levels, context())


def test_an_answer_that_is_not_finite_ends_with_the_same_words() -> None:
    with pytest.raises(ValueError, match="cannot be undone"):
        encode(build("sampler", "heun"), lambda x, level: x * torch.nan, X0, grid(10), context())
