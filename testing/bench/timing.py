"""Timing two things side by side: in one process, by turns, so that a busy machine is as busy for both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

PEAK_SIDE = {"cuda": 8192, "cpu": 2048}  # of the square matrices whose product shows what a device can do
PEAK_ROUNDS = 10

Step = Callable[[], None]


@dataclass(frozen=True)
class Spread:
    """A median with the quartiles around it.

    Attributes:
        median: Half are less.
        low: A quarter are less.
        high: A quarter are more.
    """

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def by_turns(
    first: Step, second: Step, rounds: int, device: torch.device, tick: Callable[[], None] = lambda: None
) -> tuple[list[float], list[float]]:
    """Seconds of each step of two sides.

    Args:
        first: A step of the one; it is taken twice before the clock runs.
        second: A step of the other, likewise.
        rounds: Timed steps of each; who begins changes from round to round.
        device: Where they compute.
        tick: Called after each round, and after the steps before the clock runs.

    Returns:
        A list for each side; the k-th of both were taken next to each other.
    """
    for step in (first, second, first, second):
        step()
    tick()
    a, b = in_turn([partial(timed, first, device), partial(timed, second, device)], rounds, tick)
    return a, b


def in_turn(
    sides: Sequence[Callable[[], float]], rounds: int, tick: Callable[[], None] = lambda: None
) -> list[list[float]]:
    """What each side measures of itself, round by round.

    Args:
        sides: Each measures once and gives a number.
        rounds: How often; who begins changes from round to round.
        tick: Called after each round.

    Returns:
        A list for each side; the k-th of all were measured next to each other.
    """
    found: list[list[float]] = [[] for _ in sides]
    for k in range(rounds):
        for place in range(len(sides)):
            side = (k + place) % len(sides)
            found[side].append(sides[side]())
        tick()
    return found


def timed(step: Step, device: torch.device) -> float:
    """Seconds of one step, all of its work on the device done."""
    wait(device)
    began = time.perf_counter()
    step()
    wait(device)
    return time.perf_counter() - began


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large matrix product, the best of some: what a device can do."""
    side = PEAK_SIDE.get(device.type, PEAK_SIDE["cpu"])
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))

    def product() -> None:
        torch.mm(a, b)

    product()
    return 2 * side**3 / min(timed(product, device) for _ in range(PEAK_ROUNDS))


def wait(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
