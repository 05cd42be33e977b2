"""What a feed reads from: rows by their numbers, on the device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable
from contextlib import closing

from torch import Tensor

from ...registry import UserError
from ..world import LocalError

# images uint8 (b, C, H, W), or what a codec made of them, and their conditioning, (b, ...) each
Rows = tuple[Tensor, dict[str, Tensor]]
GIB = 2**30


class Source(ABC):
    """A fixed number of rows, given on the device.

    A subclass writes ``__len__`` and `take`; one that can read ahead of who uses it also writes `stream`.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows."""

    @abstractmethod
    def take(self, numbers: Tensor) -> Rows:
        """The rows of the given numbers, int64 (b,) on the CPU, in that order; now, in this process."""

    def stream(self, order: Iterable[Tensor]) -> Generator[Rows]:
        """The rows of each ``numbers`` of ``order`` in turn, which may have no end; close it to free what it holds.

        ``order`` may be asked for more than was given out.
        """
        for numbers in order:
            yield self.take(numbers)

    def about(self) -> str:
        """How it gives its rows, in a few words, for the start of a run."""
        return "read as they are asked for"


def each(source: Source, order: Iterable[Tensor]) -> Generator[Rows]:
    """The rows of a finite ``order``, read ahead; what it holds is freed when the caller is done, or fails.

    Raises:
        LocalError: One of them cannot be read: each rank reads its own.
    """
    with closing(source.stream(order)) as rows:
        try:
            yield from rows
        except UserError as error:
            raise LocalError(str(error)) from error
