"""What any course of the learning rate must hold to."""

from __future__ import annotations

import math

from ..core import Decay, Progress
from .claims import called, hold, require

HORIZON = 12_800  # images
BATCHES = (1, 16, 128)


def check_decay(decay: Decay) -> None:
    """Hold a decay to the interface: every check below.

    Raises:
        AssertionError: With a sentence, at the first that fails.
    """
    hold(DECAY_CHECKS, decay)


def check_factors(decay: Decay) -> None:
    """A finite factor from 0 to 1 at every point of a training, and beyond its horizon."""
    for size in BATCHES:
        for images in range(0, 2 * HORIZON, HORIZON // 16):
            factor = decay(Progress(images, HORIZON, size, warmup=HORIZON // 10))
            require(
                math.isfinite(factor) and 0 <= factor <= 1,
                f"{called(decay)} is {factor} after {images} of {HORIZON} images; it is to be from 0 to 1",
            )


def check_start(decay: Decay) -> None:
    """It begins at 1: the recipe's learning rate is that after the warm-up."""
    factor = decay(Progress(0, HORIZON, 16))
    require(factor == 1, f"{called(decay)} begins at {factor}; it is to begin at 1, the recipe's own learning rate")


def check_pure(decay: Decay) -> None:
    """The same point asked for twice, with others between, gives the same factor: a run that goes on needs that."""
    points = [Progress(images, HORIZON, 16) for images in (0, HORIZON // 3, HORIZON)]
    first = [decay(point) for point in points]
    again = [decay(point) for point in reversed(points)][::-1]
    require(first == again, f"{called(decay)} gave {first}, then {again} for the same points")


DECAY_CHECKS = (check_factors, check_start, check_pure)
