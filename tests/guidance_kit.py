"""Denoisers that are known in closed form, for the tests of guidance."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dmf.core import (
    DataSpec,
    Denoiser,
    Level,
    NoiseSchedule,
    generator,
    predictions,
)
from dmf.testing import Mixture, unlike_schedules

Formula = Callable[[np.ndarray, np.ndarray, float], np.ndarray]  # (conditional, reference, sigma / alpha) of one image

SPEC = DataSpec((1, 2, 2), ("left", "right"))
UNLABELLED = DataSpec((1, 2, 2))
SHIFTS = [[-0.5, 0.2, 0.1, 0.3], [0.4, -0.3, -0.2, 0.6]]
LABELS = [0, 1, 0, 1, 1]
BLOBS = Mixture([[-1.0, -0.5, 0.7, 0.2], [0.2, 0.9, -0.6, -1.0], [1.0, -0.3, 0.1, 0.4]], 0.5, [0.3, 0.3, 0.4])
WEAK = Mixture([[-0.8, -0.2, 0.5, 0.3], [0.4, 0.6, -0.4, -0.7]], 0.8)
SCHEDULES = unlike_schedules()


W = 2.5


def at_ratios(schedule: NoiseSchedule, ratios: list[float]) -> Level:
    """The levels with these sigma / alpha, one an image."""
    return schedule.at(schedule.t_at(-2 * torch.tensor(ratios, dtype=torch.float64).log())).per_image(4)


def one(level: Level, i: int) -> Level:
    """The level of image i alone, 0-d."""
    return Level(*(field.flatten()[i] for field in (level.t, level.alpha, level.sigma)))


def noisy(level: Level, count: int = len(LABELS)) -> Tensor:
    clean = BLOBS.draw(count, generator(0, "clean", 0)).reshape(count, *SPEC.shape)
    return level.mix(clean, torch.randn(clean.shape, generator=generator(0, "noise", 0), dtype=torch.float64))


def perfect(schedule: NoiseSchedule, prediction: str = "v", data: Mixture = BLOBS, labels: bool = True) -> Denoiser:
    predict = getattr(predictions, prediction)
    return Denoiser(data.as_network(schedule, predict, 0.5, SHIFTS if labels else None), schedule, predict, 0.5)


def conditional(x: Tensor, level: Level, data: Mixture = BLOBS) -> Tensor:
    moved = torch.tensor(SHIFTS, dtype=torch.float64)[LABELS].reshape(x.shape)
    return moved + data.denoise(x - level.alpha * moved, level)


def expected(formula: Formula, a: Tensor, b: Tensor, level: Level) -> Tensor:
    """The formula, image by image."""
    ratios = level.ratio.flatten().expand(len(a)).tolist()
    images = [formula(x.numpy(), y.numpy(), r) for x, y, r in zip(a, b, ratios, strict=True)]
    return torch.from_numpy(np.stack(images))
