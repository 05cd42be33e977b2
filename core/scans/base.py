"""The interface of scans, and what every one shares: its reversal, its inverse, where its lines end."""

# annotations are types here, not texts: a text would be looked up in the module of each subclass
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Scan(ABC):
    """An order in which a state-space model reads the patches of an image: a permutation of their raster order.

    Attributes:
        reverse: Whether the path is walked from its end to its beginning.
    """

    reverse: bool = False

    @abstractmethod
    def path(self, rows: int, columns: int) -> Tensor:
        """The way through the patches, not reversed.

        Args:
            rows: Of patches, at least 1.
            columns: Likewise.

        Returns:
            (rows * columns,) int64 on the CPU, each of 0 ... rows * columns - 1 once; the patch in row r and column c
            is r * columns + c.
        """

    def order(self, rows: int, columns: int) -> Tensor:
        """The scan: its token k is patch ``order[k]`` of the raster order.

        Args:
            rows: Of patches, at least 1.
            columns: Likewise.

        Returns:
            (rows * columns,) int64 on the CPU.
        """
        with torch.device("cpu"):  # an index, wherever a network is being made
            path = self.path(rows, columns)
        return path.flip(0) if self.reverse else path


def inverse(order: Tensor) -> Tensor:
    """Where each patch is in a scan: ``inverse(order)[order] = order[inverse(order)] = 0 ... N - 1``.

    Args:
        order: (N,) int64.

    Returns:
        (N,) int64.

    Raises:
        ValueError: Where ``order`` is no permutation.
    """
    numbers = torch.arange(len(order), device=order.device)
    if not torch.equal(order.sort().values, numbers):
        raise ValueError(
            f"a scan's order holds each of 0 to {len(order) - 1} once; got {order[:12].tolist()}"
            f"{' ...' if len(order) > 12 else ''}"
        )
    places = torch.empty_like(order)
    places[order] = numbers
    return places


def line_ends(order: Tensor, columns: int) -> Tensor:
    """The tokens after which a scan jumps: those whose successor is no neighbour, above, below or beside.

    Args:
        order: (N,) int64.
        columns: Of patches.

    Returns:
        (N,) bool; the last token, which has no successor, is none.
    """
    row, column = order // columns, order % columns
    ends = torch.zeros_like(order, dtype=torch.bool)
    ends[:-1] = row.diff().abs() + column.diff().abs() != 1
    return ends
