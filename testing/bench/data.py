"""Ways to the same images, measured side by side: in one process, by turns, in steady state."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from .timing import Spread, in_turn, spread, wait

LEAD = 10  # batches before the clock runs: more than any side has ready, so that none of them is a gift
REST_S = 0.3  # between two sides, in which the workers of the one before fill their queues and fall silent


@dataclass(frozen=True)
class Conditions:
    """Under which is measured.

    Attributes:
        device: That the images go to.
        batch: Images a batch.
        rounds: Turns of each side.
        turn_s: Seconds of a turn.
    """

    device: torch.device
    batch: int
    rounds: int
    turn_s: float


@dataclass(frozen=True)
class Side:
    """One way to the images.

    Attributes:
        name: For the table.
        deliver: Begins; an endless row of batches, each told as its number of images once it is there.
    """

    name: str
    deliver: Callable[[], Generator[int]] = field(repr=False)


@dataclass(frozen=True)
class Row:
    """A line of a contest's table.

    Attributes:
        name: What was measured.
        values: By heading, which has the unit.
    """

    name: str
    values: Mapping[str, Spread]


@dataclass(frozen=True)
class Claim:
    """A figure that says something.

    Attributes:
        what: It is of.
        value: It.
        unit: Written behind it.
        least: What it should be at least, if anything.
        most: What it should be at most, if anything.
    """

    what: str
    value: Spread
    unit: str = ""
    least: float | None = None
    most: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the median is as it should be; None where nothing was wanted of it."""
        if self.least is None and self.most is None:
            return None
        low, high = self.least, self.most
        return (low is None or self.value.median >= low) and (high is None or self.value.median <= high)


@dataclass(frozen=True)
class Result:
    """A contest's outcome.

    Attributes:
        contest: Its name.
        title: What was compared, in words.
        rows: The table.
        claims: What follows from it.
    """

    contest: str
    title: str
    rows: Sequence[Row]
    claims: Sequence[Claim]


def race(
    sides: Sequence[Side], under: Conditions, tick: Callable[[], None] = lambda: None
) -> tuple[list[Row], list[list[float]]]:
    """Images a second of each side.

    Args:
        sides: At least one; all are open at once and deliver by turns.
        under: How long, how often.
        tick: Called ``under.rounds + 1`` times.

    Returns:
        A row each, and for each the rates of all rounds; the k-th of all were measured next to each other.
    """
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(contextlib.closing(_started(side))) for side in sides]
        tick()
        rates = in_turn([partial(_turn, stream, under) for stream in streams], under.rounds, tick)
    rows = [Row(side.name, {"images/s": spread(found)}) for side, found in zip(sides, rates, strict=True)]
    return rows, rates


def over(first: Sequence[float], second: Sequence[float]) -> Spread:
    """The first's figures over the second's, round by round."""
    return spread([a / b for a, b in zip(first, second, strict=True)])


def _started(side: Side) -> Generator[int]:
    """Its batches, after the first: processes are started by then."""
    stream = side.deliver()
    next(stream)
    return stream


def _turn(stream: Generator[int], under: Conditions) -> float:
    """Images a second of one side while the others rest."""
    time.sleep(REST_S)
    for _ in range(LEAD):
        next(stream)
    wait(under.device)
    images, began = 0, time.perf_counter()
    while time.perf_counter() - began < under.turn_s:
        images += next(stream)
    wait(under.device)
    return images / (time.perf_counter() - began)
