"""What the tests of multistep samplers share: some denoiser, irregular grids, a walk over them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmf.core import Context, Level, Sampler, generator, sample
from dmf.registry import build

Array = np.ndarray[Any, np.dtype[np.float64]]
LINEAR = build("schedule", "linear")
T = 1000
GRIDS = [[1000], [900, 20], [1000, 700, 640, 300, 120, 119, 30, 4, 1], [999, 500, 480, 410, 90, 60, 8]]  # of any steps


def guess(x: Any, lam: Any) -> Any:
    """Some x0_hat of no data set, never 0, that depends on the level too."""
    if isinstance(x, np.ndarray):
        return np.tanh(1.3 * x + 0.2 * lam) + 0.2 * np.cos(lam)
    return torch.tanh(1.3 * x + 0.2 * lam) + 0.2 * torch.cos(lam)


def denoise(x: Tensor, level: Level) -> Tensor:
    guessed: Tensor = guess(x, level.half_log_snr)
    return guessed


def drawn(*shape: int, of: str = "x") -> Array:
    numbers: Array = torch.randn(shape, generator=generator(0, of, 0), dtype=torch.float64).numpy()
    return numbers


def walk(sampler: Sampler[Any], x: Array, entries: Sequence[int], z: Array | None = None) -> Array:
    draws = iter([] if z is None else torch.from_numpy(z))
    levels = [LINEAR.at(i / T) for i in entries] + [LINEAR.clean]
    ended = sample(sampler, denoise, torch.from_numpy(x), levels, Context(LINEAR, lambda: next(draws)))
    return np.asarray(ended.numpy())


def compare(got: Array, want: Array) -> None:
    scale = max(1.0, float(np.abs(want).max()))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-9 * scale)
