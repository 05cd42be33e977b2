"""Objectives: what they make of an error."""

import pytest
import torch
from torch import Tensor

from dmf.core import Denoiser, generator, training_loss
from dmf.core.objectives import huber, l1, l2
from dmf.core.predictions import v
from dmf.core.weightings import uniform
from dmf.registry import PartError, build
from dmf.testing import Straight

SCALE = torch.tensor([0.25, 1.0, 9.0], dtype=torch.float64)  # factor on the squared error of each image


def losses(objective: object, size: float = 1.0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """The losses of an error of about ``size``, and that error times the root of its weight."""
    random = generator(0, "objectives", 0)
    x0, eps, error = torch.randn(3, 3, 2, 5, generator=random, dtype=torch.float64)
    level = Straight().at(torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)).per_image(3)
    target = level.alpha * eps - level.sigma * x0
    answer = (target + size * error).to(dtype)
    denoiser = Denoiser(lambda x, noise, cond: answer, Straight(), v)
    found = training_loss(
        denoiser,
        objective,  # type: ignore[arg-type]
        lambda level, space: SCALE.reshape(-1, 1, 1) * uniform(level, space),
        x0.to(dtype),
        eps.to(dtype),
        level,
        {},
    )
    return found, SCALE.sqrt().reshape(-1, 1, 1) * size * error


def test_l2_and_l1() -> None:
    found, error = losses(l2)
    torch.testing.assert_close(found, error.square().mean((1, 2)))
    found, error = losses(l1)
    torch.testing.assert_close(found, error.abs().mean((1, 2)))


@pytest.mark.parametrize("delta", [0.1, 1.0, 2.5])
def test_huber_is_torchs(delta: float) -> None:
    found, error = losses(build("objective", "huber", delta=delta))
    want = torch.nn.functional.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta).mean((1, 2))
    torch.testing.assert_close(found, want)


def test_hubers_limits() -> None:
    small, large = build("objective", "huber", delta=1e-6), build("objective", "huber", delta=1e3)
    torch.testing.assert_close(losses(large)[0], losses(l2)[0] / 2)
    torch.testing.assert_close(losses(small)[0] / 1e-6, losses(l1)[0], rtol=1e-4, atol=0)


def test_huber_is_smooth_where_its_pieces_meet() -> None:
    below, above = (losses(huber, 1 + step)[0] for step in (-1e-7, 1e-7))
    torch.testing.assert_close(below, above, rtol=1e-6, atol=0)


def test_a_delta_that_cannot_be() -> None:
    with pytest.raises(PartError, match="delta"):
        build("objective", "huber", delta=0)


def test_float32_in_float32_out() -> None:
    for objective in (l2, l1, huber):
        single, _ = losses(objective, dtype=torch.float32)
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), losses(objective)[0], rtol=1e-5, atol=0)
