"""Nearest rows, and balls around rows, of sets that are too large for all pairs of them at once.

Squared distances come from products of blocks, ``|a|^2 + |b|^2 - 2 a.b`` in float32, with the rows moved to the mean
of the reference. Wherever that cannot decide (which row is the k-th nearest, whether one lies in a ball), the distance
is computed anew from the difference, in float64: a copy is at distance 0, equal distances are equal, and nothing
depends on the size of a block. Of tight clusters that are far apart float32 does not even know the candidates for the
nearest; such rows are compared with all again, by products in float64. Cost: N M D multiply-adds for N rows against M,
and as many in float64 for the rows in doubt, which are few among ordinary features; memory some blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from .arithmetic import exact_float32

QUERIES, ROWS = 1024, 8192  # rows of a block, and rows that it is compared with at a time
SPARE = 5  # more candidates than neighbours are wanted, from which float64 chooses
EXACT_NUMBERS = 1 << 22  # of a difference in float64, at a time
FEW = 1 / 64  # of a block's pairs; as many differences take as long as the products of all of them in float64

Tick = Callable[[int], None]  # is told how many queries are done


class Near(NamedTuple):
    """The k nearest rows of each of Q.

    Attributes:
        squared: Squared distances, (Q, k) float64, rising.
        numbers: Which rows they are, (Q, k) int64; which of many equally near ones is not defined.
    """

    squared: Tensor
    numbers: Tensor


@dataclass(frozen=True)
class _Points:
    """(N, D) rows as products see them: from ``mean``, (D,) float64, in ``dtype``."""

    rows: Tensor
    mean: Tensor
    dtype: torch.dtype = torch.float32

    def block(self, start: int, size: int) -> Tensor:
        wide = torch.promote_types(self.dtype, self.rows.dtype)  # what is float64 is shortened when it has been moved
        return (self.rows[start : start + size].to(wide) - self.mean.to(wide)).to(self.dtype)

    @cached_property
    def lengths(self) -> Tensor:
        """Squared lengths, (N,)."""
        parts = [self.block(start, ROWS).square().sum(1) for start in range(0, len(self.rows), ROWS)]
        return torch.cat(parts) if parts else self.mean[:0].to(self.dtype)

    @property
    def error(self) -> float:
        """How far a squared distance may err, of the sum of both squared lengths.

        A sum of D products errs by about sqrt(D) roundings, of which each is at most that of the longest part; twice
        that is what is trusted.
        """
        return 2 * (math.sqrt(self.rows.shape[1]) + 4) * torch.finfo(self.dtype).eps


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
    mean = _mean(rows)
    coarse, fine = _Points(rows, mean), _Points(rows, mean, torch.float64)
    found = []
    with exact_float32(rows.device):
        for start in range(0, len(queries), QUERIES):
            some = queries[start : start + QUERIES]
            own = torch.arange(start, start + len(some), device=rows.device) if others else None
            found.append(_nearest(some, own, coarse, fine, k))
            if tick:
                tick(len(some))
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
    coarse, fine = _Points(b, mean), _Points(b, mean, torch.float64)
    count = torch.zeros(len(a), dtype=torch.int64, device=a.device)
    holds = torch.zeros(len(b), dtype=torch.bool, device=a.device)
    lies = None if radius_a is None else holds.clone()
    with exact_float32(a.device):
        for start in range(0, len(a), QUERIES):
            some = a[start : start + QUERIES]
            for other in range(0, len(b), ROWS):
                pairs = _Pairs(some, coarse, fine, other)
                here, there = slice(start, start + len(some)), slice(other, other + pairs.squared.shape[1])
                within = pairs.within(radius_b[there][None])
                count[here] += within.sum(1)
                holds[there] |= within.any(0)
                if radius_a is not None and lies is not None:
                    lies[there] |= pairs.within(radius_a[here][:, None]).any(0)
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


def _nearest(some: Tensor, own: Tensor | None, coarse: _Points, fine: _Points, k: int) -> Near:
    """The k nearest of a block; ``own``: numbers of rows that are none of theirs. Rows in doubt in float64."""
    near, left = _by_products(some, own, coarse, k)
    if len(left):
        some, own = some[left], None if own is None else own[left]
        again, still = _by_products(some, own, fine, k)
        if len(still):  # distances that are all but equal
            bound, own = again.squared[still, -1], None if own is None else own[still]
            _put(again, still, _within_reach(some[still], own, fine, bound, k))
        _put(near, left, again)
    return near


def _put(near: Near, places: Tensor, better: Near) -> None:
    near.squared[places], near.numbers[places] = better


def _by_products(some: Tensor, own: Tensor | None, b: _Points, k: int) -> tuple[Near, Tensor]:
    """The k nearest by products of ``b``'s type, and the queries of which there may be nearer ones."""
    all_of_them = len(b.rows) - (own is not None)
    best = _candidates(some, own, b, min(k + SPARE, all_of_them))
    near = _chosen(some, b.rows, best.numbers, k)
    if best.numbers.shape[1] == all_of_them:
        return near, best.numbers[:0, 0]
    kth = near.squared[:, -1]
    lengths = _Points(some, b.mean, b.dtype).lengths.to(torch.float64)
    # a row that is nearer than the k-th is no longer than the query and the way to it
    doubt = b.error * (lengths + (lengths.sqrt() + kth.sqrt()).square())
    sure = (kth == 0) | (best.squared[:, -1] - doubt >= kth)
    return near, (~sure).nonzero()[:, 0]


def _candidates(some: Tensor, own: Tensor | None, b: _Points, wide: int) -> Near:
    """The ``wide`` rows of ``b`` nearest to each of a block, as its type sees it."""
    best = Near(some.new_zeros(len(some), 0, dtype=b.dtype), some.new_zeros(len(some), 0, dtype=torch.int64))
    for other, squared, _ in _blocks(some, b):
        _leave_out(own, other, squared)
        best = _merged(best, squared, other, wide)
    return best


def _within_reach(some: Tensor, own: Tensor | None, b: _Points, bound: Tensor, k: int) -> Near:
    """The k nearest, of which the last is not farther than ``bound``: all that may be so near, by their differences."""
    best = Near(bound.new_zeros(len(some), 0), some.new_zeros(len(some), 0, dtype=torch.int64))
    for other, squared, doubt in _blocks(some, b):
        _leave_out(own, other, squared)
        i, j = (squared - doubt <= bound[:, None]).nonzero(as_tuple=True)
        exact = squared.fill_(math.inf)
        size = max(1, EXACT_NUMBERS // max(1, some.shape[1]))
        for here, there in zip(torch.split(i, size), torch.split(j, size), strict=True):
            exact[here, there] = squared_distances(some[here], b.rows[other + there])
        best = _merged(best, exact, other, k)
    return _chosen(some, b.rows, best.numbers, k)


def _leave_out(own: Tensor | None, other: int, squared: Tensor) -> None:
    """Put the rows with these numbers infinitely far away, in a block (q, r) that starts at ``other``."""
    if own is not None:
        same = own - other
        inside = (same >= 0) & (same < squared.shape[1])
        squared[inside.nonzero()[:, 0], same[inside]] = math.inf


def _merged(best: Near, squared: Tensor, other: int, wide: int) -> Near:
    """The nearest of those that are known and of a block that starts at ``other``."""
    values, places = squared.topk(min(wide, squared.shape[1]), largest=False)
    values, places = torch.cat([best.squared, values], 1), torch.cat([best.numbers, places + other], 1)
    values, order = values.topk(min(wide, values.shape[1]), largest=False)
    return Near(values, places.gather(1, order))


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


def _blocks(some: Tensor, b: _Points) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Some rows against all of ``b``: where the rows of ``b`` start, squared distances, and how far they may err."""
    a = _Points(some, b.mean, b.dtype)
    for other in range(0, len(b.rows), ROWS):
        yield other, *_products(a, b, other)


def _products(a: _Points, b: _Points, other: int) -> tuple[Tensor, Tensor]:
    """Squared distances, (q, r), to the rows of ``b`` from ``other`` on, and how far they may err."""
    lengths = a.lengths[:, None] + b.lengths[other : other + ROWS]
    squared = torch.addmm(lengths, a.block(0, len(a.rows)), b.block(other, ROWS).T, alpha=-2)
    return squared, lengths.mul_(b.error)


class _Pairs:
    """Some rows against those of another set from ``other`` on.

    Args:
        some: (q, D).
        coarse: The other set in float32.
        fine: The same in float64, asked where float32 leaves more than a few pairs in doubt.
        other: Where its rows begin.
    """

    def __init__(self, some: Tensor, coarse: _Points, fine: _Points, other: int) -> None:
        self.some, self.fine, self.other = some, fine, other
        self.squared, self.doubt = _products(_Points(some, coarse.mean), coarse, other)

    def within(self, radius: Tensor) -> Tensor:
        """Whether distances are at most a squared radius, (q, r) bool; those in doubt by their differences."""
        over = self.squared - radius.to(self.squared.dtype)  # it errs by less than the distance that it once was
        unsure = over.abs() <= self.doubt
        if self.squared.dtype != torch.float64 and int(unsure.sum()) > FEW * unsure.numel():
            a = _Points(self.some, self.fine.mean, torch.float64)
            self.squared, self.doubt = _products(a, self.fine, self.other)
            return self.within(radius)
        within, bounds = over <= 0, radius.expand(over.shape)
        i, j = unsure.nonzero(as_tuple=True)
        size = max(1, EXACT_NUMBERS // max(1, self.some.shape[1]))
        for here, there in zip(torch.split(i, size), torch.split(j, size), strict=True):
            exact = squared_distances(self.some[here], self.fine.rows[self.other + there])
            within[here, there] = exact <= bounds[here, there]
        return within


def _mean(rows: Tensor) -> Tensor:
    total = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
    for block in torch.split(rows, ROWS):
        total += block.sum(0, dtype=torch.float64)
    return (total / max(1, len(rows))).to(torch.float32).to(torch.float64)  # the same in all types
