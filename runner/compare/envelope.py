"""Few points of many, so that none is hidden: means, with the least and the greatest of what they stand for.

A curve of 100,000 points has hundreds to each dot of a screen. Taking every k-th would lose the one point where the
gradient exploded, and show chance; so each bin of the horizontal axis has its mean, and a band from its least to its
greatest value. Cost: one pass over the points.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .runs import Floats

BINS = 300  # of a chart's whole width
RAW = 400  # points that are drawn as they are


class Thinned(NamedTuple):
    """A curve.

    Attributes:
        x: (points,), rising.
        mean: (points,), NaN where there is none: the curve has a gap there.
        least: (points,); equal to ``mean`` of a curve that has all its points.
        greatest: (points,).
        each: How many values a point stands for, at most; 1 of a curve that has all its points.
    """

    x: Floats
    mean: Floats
    least: Floats
    greatest: Floats
    each: int


def thinned(x: Floats, y: Floats, end: float) -> Thinned:
    """A curve of at most `RAW` points.

    Args:
        x: (points,), rising.
        y: (points,), NaN where there is no value.
        end: Of the horizontal axis, which begins at 0; the bins of all curves of a chart are the same.
    """
    if len(x) <= RAW:
        return Thinned(x, y, y, y, 1)
    number = np.minimum((x / end * BINS).astype(np.int64), BINS - 1)
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    there = np.isfinite(y)
    counts = np.add.reduceat(there, starts, dtype=np.int64)
    some = counts > 0
    mean = np.add.reduceat(np.where(there, y, 0.0), starts) / np.maximum(counts, 1)
    least = np.minimum.reduceat(np.where(there, y, np.inf), starts)
    greatest = np.maximum.reduceat(np.where(there, y, -np.inf), starts)
    middle = np.add.reduceat(x, starts) / np.diff(starts, append=len(x))
    none = np.where(some, 0.0, np.nan)
    return Thinned(middle, mean + none, np.where(some, least, np.nan), np.where(some, greatest, np.nan), counts.max())
