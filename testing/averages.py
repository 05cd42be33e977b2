"""What any average of the weights must hold to."""

from __future__ import annotations

import re

from ..core import Average
from .claims import called, hold, require

STEPS = (*range(64), 1000, 10**6)
BATCHES = (1, 16, 4096)
LONG = 20_000  # steps within which an average is to move


def check_average(average: Average) -> None:
    """Hold an average to the interface: every check below.

    Raises:
        AssertionError: With a sentence, at the first that fails.
    """
    hold(AVERAGE_CHECKS, average)


def check_shares(average: Average) -> None:
    """The share of the old average is a plain number from 0 to below 1, or None where a step leaves it alone.

    A tensor would make every step wait for the device.
    """
    for size in BATCHES:
        for step in STEPS:
            share = average.decay(step, size)
            require(
                share is None or (isinstance(share, int | float) and 0 <= share < 1),
                f"{called(average)} keeps {share} of itself at step {step} of {size} images; it is to be a number "
                "from 0 to below 1, or None",
            )


def check_moves(average: Average) -> None:
    """It takes weights in: one that never does stays what the network was drawn as."""
    moves = any(average.decay(step, BATCHES[1]) is not None for step in range(LONG))
    require(moves, f"{called(average)} leaves the average alone in each of the first {LONG} steps")


def check_forgets(average: Average) -> None:
    """The network's first weights, which nobody has trained, count ever less."""
    kept, halfway = 1.0, 1.0
    for step in range(LONG):
        if step == LONG // 2:
            halfway = kept
        share = average.decay(step, BATCHES[1])
        kept *= 1.0 if share is None else share
    require(
        kept < halfway or kept == 0,
        f"{called(average)} still holds {kept:.3g} of the first weights after {LONG} steps, as after half as many",
    )


def check_label(average: Average) -> None:
    """Its label is a piece of a file's name."""
    require(
        re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", average.label) is not None,
        f"{called(average)} calls itself {average.label!r}; letters, digits, dots and hyphens, please",
    )


def check_stateless(average: Average) -> None:
    """A step asked for again gives the same share: a run that goes on needs that."""
    asked = [(step, size) for size in BATCHES for step in STEPS]
    first = [average.decay(*one) for one in asked]
    again = [average.decay(*one) for one in reversed(asked)][::-1]
    require(first == again, f"{called(average)} gives other shares when the same steps are asked for again")


AVERAGE_CHECKS = (check_shares, check_moves, check_forgets, check_label, check_stateless)
