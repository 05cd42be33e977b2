"""Nearest rows, and balls around rows, of sets that are too large for all pairs of them at once.

Squared distances come from products of blocks, ``|a|^2 + |b|^2 - 2 a.b`` in float32, with the rows moved to their
common mean. Wherever that cannot decide (which row is the k-th nearest, whether one lies in a ball), the distance is
computed anew from the difference, in float64: a copy is at distance 0, equal distances are equal, and nothing depends
on the size of a block. Cost: N M D multiply-adds for N rows against M; memory some blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

QUERIES, ROWS = 1024, 8192  # rows of a block, and rows that it is compared with at a time
SPARE = 5  # more candidates than neighbours are wanted, from which float64 chooses
EXACT_NUMBERS = 1 << 22  # of a difference in float64, at a time
EPS = float(torch.finfo(torch.float32).eps)

Tick = Callable[[int], None]  # is told how many queries are done


class Near(NamedTuple):
    """The k nearest rows of each of Q.

    Attributes:
        squared: Squared distances, (Q, k) float64, rising.
        numbers: Which rows they are, (Q, k) int64; which of many equally near ones is not defined.
    """

    squared: Tensor
    numbers: Tensor


class _Points(NamedTuple):
    """(N, D) rows, their common mean (D,) and squared lengths (N,) from there, float32."""

    rows: Tensor
    mean: Tensor
    lengths: Tensor

    def block(self, start: int, size: int) -> Tensor:
        return self.rows[start : start + size].to(torch.float32) - self.mean


def nearest(queries: Tensor, rows: Tensor, k: int, *, others: bool = False, tick: Tick | None = None) -> Near:
    """The k nearest rows of each query, by Euclidean distance.

    Args:
        queries: (Q, D), floating or uint8, on the device.
        rows: (N, D), on the same.
        k: How many.
        others: ``queries`` are ``rows``, and none is its own neighbour. A row equal to it is.
        tick: Told of the queries that are done.

    Raises:
        ValueError: There are not so many rows.
    """
    if k > len(rows) - others:
        raise ValueError(f"{k} nearest of {len(rows) - others} rows cannot be had; give more rows, or ask for fewer")
    wide = min(k + SPARE, len(rows) - others)
    mean = _mean(rows)
    a, b = _points(queries, mean), _points(rows, mean)
    found = []
    with _plain_float32(rows.device):
        for start in range(0, len(queries), QUERIES):
            numbers = _candidates(a, b, start, wide, others)
            found.append(_chosen(queries[start : start + QUERIES], rows, numbers, k))
            if tick:
                tick(len(numbers))
    empty = Near(torch.zeros(0, k, dtype=torch.float64), torch.zeros(0, k, dtype=torch.int64))
    return Near(*map(torch.cat, zip(*found, strict=True))) if found else empty


def in_balls(
    a: Tensor, b: Tensor, radius_a: Tensor | None, radius_b: Tensor, *, tick: Tick | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Which rows lie in the balls around other rows; a ball has its surface.

    Args:
        a: (N, D), on the device.
        b: (M, D), on the same.
        radius_a: Squared radii of balls around ``a``, (N,) float64; None leaves them out.
        radius_b: Of balls around ``b``, (M,).
        tick: Told of the rows of ``a`` that are done.

    Returns:
        For each row of ``a``, in how many balls around ``b`` it lies, (N,) int64; for each of ``b``, whether its own
        ball holds any of ``a``, (M,) bool; for each of ``b``, whether it lies in any ball around ``a``, (M,) bool.
    """
    mean = _mean(b)
    x, y = _points(a, mean), _points(b, mean)
    count = torch.zeros(len(a), dtype=torch.int64, device=a.device)
    holds = torch.zeros(len(b), dtype=torch.bool, device=a.device)
    lies = None if radius_a is None else holds.clone()
    with _plain_float32(a.device):
        for start in range(0, len(a), QUERIES):
            for other, squared, doubt in _blocks(x, y, start):
                here, there = slice(start, start + squared.shape[0]), slice(other, other + squared.shape[1])
                within = _within(squared, doubt, radius_b[there][None], a[here], b[there])
                count[here] += within.sum(1)
                holds[there] |= within.any(0)
                if radius_a is not None and lies is not None:
                    lies[there] |= _within(squared, doubt, radius_a[here][:, None], a[here], b[there]).any(0)
            if tick:
                tick(min(QUERIES, len(a) - start))
    return count, holds, lies


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Of each row of ``a``, (P, D), to the same row of ``b``: (P,) float64, from the differences."""
    size = max(1, EXACT_NUMBERS // max(1, a.shape[1]))
    parts = [
        (x.to(torch.float64) - y.to(torch.float64)).square().sum(1)
        for x, y in zip(torch.split(a, size), torch.split(b, size), strict=True)
    ]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64, device=a.device)


def _candidates(a: _Points, b: _Points, start: int, wide: int, others: bool) -> Tensor:
    """Numbers of the ``wide`` rows of ``b`` nearest to each of a block, as float32 sees it: (q, wide)."""
    best, numbers = torch.zeros(0), torch.zeros(0)
    for other, squared, _ in _blocks(a, b, start):
        if others:
            same = torch.arange(start, start + len(squared), device=squared.device) - other
            inside = (same >= 0) & (same < squared.shape[1])
            squared[inside.nonzero()[:, 0], same[inside]] = math.inf
        values, places = squared.topk(min(wide, squared.shape[1]), largest=False)
        places = places + other
        if other:
            values, places = torch.cat([best, values], 1), torch.cat([numbers, places], 1)
        best, order = values.topk(min(wide, values.shape[1]), largest=False)
        numbers = places.gather(1, order)
    return numbers


def _chosen(queries: Tensor, rows: Tensor, numbers: Tensor, k: int) -> Near:
    """The k nearest among candidates, (q, wide), by distances in float64."""
    numbers = numbers.sort(1).values
    size = max(1, EXACT_NUMBERS // (rows.shape[1] * numbers.shape[1]))
    squared = torch.cat(
        [
            squared_distances(some.repeat_interleave(which.shape[1], 0), rows[which.flatten()]).reshape(which.shape)
            for some, which in zip(torch.split(queries, size), torch.split(numbers, size), strict=True)
        ]
    )
    values, order = squared.sort(dim=1, stable=True)
    return Near(values[:, :k], numbers.gather(1, order)[:, :k])


def _blocks(a: _Points, b: _Points, start: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """A block of ``a`` against all of ``b``: where the rows of ``b`` start, squared distances, and how far they err."""
    x, x_lengths = a.block(start, QUERIES), a.lengths[start : start + QUERIES, None]
    # a sum of D products errs by about sqrt(D) roundings, of which each is at most that of the longest part
    roundings = (math.sqrt(a.rows.shape[1]) + 4) * EPS
    for other in range(0, len(b.rows), ROWS):
        lengths = x_lengths + b.lengths[other : other + ROWS]  # (q, r)
        squared = torch.addmm(lengths, x, b.block(other, ROWS).T, alpha=-2)
        yield other, squared, lengths.mul_(roundings)


def _within(squared: Tensor, doubt: Tensor, radius: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Whether distances are at most a radius, (q, r) bool; those that float32 leaves in doubt anew."""
    over = squared - radius.to(torch.float32)  # a radius errs by less than the distance that it once was
    within = over <= 0
    i, j = (over.abs() <= 2 * doubt).nonzero(as_tuple=True)
    size = max(1, EXACT_NUMBERS // max(1, a.shape[1]))
    bounds = radius.expand(squared.shape)
    for here, there in zip(torch.split(i, size), torch.split(j, size), strict=True):
        within[here, there] = squared_distances(a[here], b[there]) <= bounds[here, there]
    return within


def _mean(rows: Tensor) -> Tensor:
    total = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
    for block in torch.split(rows, ROWS):
        total += block.sum(0, dtype=torch.float64)
    return (total / max(1, len(rows))).to(torch.float32)


def _points(rows: Tensor, mean: Tensor) -> _Points:
    found = _Points(rows, mean, mean[:0])
    lengths = [found.block(start, ROWS).square().sum(1) for start in range(0, len(rows), ROWS)]
    return found._replace(lengths=torch.cat([mean[:0], *lengths]))


@contextmanager
def _plain_float32(device: torch.device) -> Iterator[None]:
    """Products in float32 as they are written: neither TF32 nor bfloat16, which a training may have asked for."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
