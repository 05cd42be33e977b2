"""What any average of the weights must hold to."""

from __future__ import annotations

import re

from ..core import Average
from .claims import called, hold, require

STEPS = (*range(64), 1000, 10**6)
BATCH = 16


def check_average(average: Average) -> None:
    """Hold an average to the interface: every check below.

    Raises:
        AssertionError: With a sentence, at the first that fails.
    """
    hold(AVERAGE_CHECKS, average)


def check_shares(average: Average) -> None:
    """The share of the old average is from 0 to 1, or None where a step leaves it alone."""
    for step in STEPS:
        share = average.decay(step, BATCH)
        require(
            share is None or 0 <= share < 1,
            f"{called(average)} keeps {share} of itself at step {step}; it is to be at least 0 and below 1, or None",
        )


def check_label(average: Average) -> None:
    """Its label is a piece of a file's name."""
    require(
        re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", average.label) is not None,
        f"{called(average)} calls itself {average.label!r}; letters, digits, dots and hyphens, please",
    )


def check_stateless(average: Average) -> None:
    """A step asked for again gives the same share: a run that goes on needs that."""
    first = [average.decay(step, BATCH) for step in STEPS]
    again = [average.decay(step, BATCH) for step in reversed(STEPS)][::-1]
    require(first == again, f"{called(average)} gives other shares when the same steps are asked for again")


AVERAGE_CHECKS = (check_shares, check_label, check_stateless)
