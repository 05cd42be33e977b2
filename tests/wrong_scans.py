"""The contract kit must say no: checks of scans are shown orders that they have to refuse."""

from dataclasses import dataclass
from typing import Any

import torch
from refusal_kit import Refused
from torch import Tensor

from dmf.core.scans import Raster
from dmf.testing import scans as on_scans


@dataclass(frozen=True, kw_only=True)
class Twice(Raster):
    def path(self, rows: int, columns: int) -> Tensor:
        return super().path(rows, columns).clamp(max=max(rows * columns - 2, 0))


@dataclass(frozen=True, kw_only=True)
class Short(Raster):
    def path(self, rows: int, columns: int) -> Tensor:
        return super().path(rows, columns)[: rows * rows]


@dataclass(frozen=True, kw_only=True)
class SquareOnly(Raster):
    def path(self, rows: int, columns: int) -> Tensor:
        return super().path(rows, columns).reshape(rows, rows).flatten()


@dataclass(frozen=True, kw_only=True)
class Floats(Raster):
    def path(self, rows: int, columns: int) -> Tensor:
        return super().path(rows, columns).double()


@dataclass(frozen=True, kw_only=True)
class Deaf(Raster):
    def order(self, rows: int, columns: int) -> Tensor:
        return self.path(rows, columns)


@dataclass(frozen=True, kw_only=True)
class Random(Raster):
    def path(self, rows: int, columns: int) -> Tensor:
        return torch.randperm(rows * columns)


KEPT = {size: Raster().order(*size) for size in on_scans.SIZES}


@dataclass(frozen=True, kw_only=True)
class Kept(Raster):
    def path(self, rows: int, columns: int) -> Tensor:
        return KEPT[rows, columns]


REFUSED: dict[str, Refused] = {
    "scan": [
        (Twice(), on_scans.check_permutation, "holds each of 0 to 1 once"),
        (Short(), on_scans.check_permutation, r"has the shape \(1,\), not \(2,\)"),
        (SquareOnly(), on_scans.check_permutation, r"order\(1, 2\) fails: RuntimeError"),
        (Floats(), on_scans.check_permutation, "is torch.float64, not int64"),
        (Deaf(), on_scans.check_reverse, "`reverse` is not the path from its other end"),
        (Random(), on_scans.check_repeats, "is another one when asked again"),
        (Kept(), on_scans.check_repeats, "is another one when asked again"),
    ]
}
RIGHT: list[tuple[str, Any]] = [("scan", Raster())]
