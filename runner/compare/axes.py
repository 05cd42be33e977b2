"""The ticks of an axis, and the way of a value to its place on it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .runs import Floats

WANTED = 5  # ticks, about
ROOM = 0.04  # of the range, above and below


class Tick(NamedTuple):
    """A tick.

    Attributes:
        at: From 0, the axis' beginning, to 1.
        text: What is written there.
    """

    at: float
    text: str


class Axis(NamedTuple):
    """From ``low`` to ``high``, both above 0 if ``log``."""

    low: float
    high: float
    log: bool = False

    def place(self, values: Floats) -> Floats:
        """From 0 to 1; those that cannot be on it, of 0 and below on a logarithmic one, are NaN."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = np.where(values > 0, np.log10(values), np.nan) if self.log else values
        return np.asarray((scaled - low) / (high - low))

    def ticks(self) -> list[Tick]:
        """Round numbers."""
        values = _powers(self.low, self.high) if self.log else _round(self.low, self.high)
        if len(values) < 2:
            values = _round(self.low, self.high)
        places = self.place(np.array(values))
        return [Tick(float(at), told(value)) for at, value in zip(places, values, strict=True)]

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.log else value


def around(values: Floats, log: bool) -> Axis | None:
    """An axis with room for all finite values, those above 0 if ``log``; None if there are none."""
    some = values[np.isfinite(values) & (values > 0 if log else True)]
    if not len(some):
        return None
    low, high = float(some.min()), float(some.max())
    if log:
        room = max((high / low) ** ROOM, 1.02)
        return Axis(low / room, high * room, True)
    room = (high - low) * ROOM or abs(high) * ROOM or 1.0
    return Axis(low - room, high + room)


def told(value: float) -> str:
    """A number with few digits; 25600 is 25.6k."""
    for one, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if one <= abs(value) < 1000 * one:
            return f"{value / one:.4g}{unit}"
    return f"{value:.4g}"


def _round(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / WANTED
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _powers(low: float, high: float) -> list[float]:
    """Powers of ten; with their doubles and fives where these are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    among = (1, 2, 5) if last - first <= 3 else (1,)
    every = -(-(last - first) // (2 * WANTED))
    found = [m * 10.0**k for k in range(first, last + 1, every) for m in among]
    return [value for value in found if low <= value <= high]
