"""Work on many things at once, with the results in order.

Threads do it: reading, decoding, scaling, packing and checksums all let go of the interpreter's lock.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from .progress import Progress

T = TypeVar("T")
R = TypeVar("R")
TOGETHER = 8  # things a worker takes at once: handing one over costs as much as decoding a small picture
MOST_TOGETHER = 32
AHEAD = 4  # what a worker may have waiting, so that a large picture at the front does not stop the others


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(work: Callable[[T], R], things: Sequence[T], workers: int, together: int = TOGETHER) -> Iterator[list[R]]:
    """``work`` of each thing, some at a time, in the order of the things.

    Args:
        work: What is done with each; called in threads.
        things: All of them.
        workers: How many threads.
        together: How many things a thread takes at once.
    """
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[list[R]]] = deque()
    try:
        for start in range(0, len(things), together):
            some = things[start : start + together]
            waiting.append(pool.submit(_all, work, some))
            if len(waiting) >= workers * AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)  # whoever stops waits for what is in hand, not for the rest


def on_all_cores(work: Callable[[T], R], things: Sequence[T], what: str) -> Iterator[R]:
    """``work`` of each thing, in order, with a progress bar.

    Args:
        work: What is done with each; called in threads.
        things: All of them.
        what: For the bar, such as "read pictures".
    """
    workers = cores()
    together = max(1, min(MOST_TOGETHER, len(things) // (AHEAD * workers)))
    with Progress(what, len(things)) as progress:
        for done in in_order(work, things, workers, together):
            yield from done
            progress.step(len(done))


def _all(work: Callable[[T], R], some: Sequence[T]) -> list[R]:
    return [work(one) for one in some]
