"""The Hilbert curve, for any number of rows and columns.

Source: Hilbert 1891, "Ueber die stetige Abbildung einer Linie auf ein Flächenstück" (Mathematische Annalen 38), for
sides that are powers of two, of which this gives his curve. Other sides are divided as his squares are, but at even
places, which keeps every step one to a neighbour (the argument stands in `_walk`). Cost: linear in the patches.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Scan

Cell = tuple[int, int]  # (along, across)


@dataclass(frozen=True, kw_only=True)
class Hilbert(Scan):
    """A curve on which patches that are near in the image are near; every step leads to a neighbour.

    It begins at the top left, and ends at the top right or, where only that is possible, at the bottom left.
    """

    def path(self, rows: int, columns: int) -> Tensor:
        """The curve, along the longer side where there is one that way."""
        sideways = (
            columns >= rows if _possible(columns, rows) and _possible(rows, columns) else _possible(columns, rows)
        )
        if sideways:
            found = [across * columns + along for along, across in _walk(columns, rows)]
        else:
            found = [along * columns + across for along, across in _walk(rows, columns)]
        return torch.tensor(found)


def _possible(length: int, height: int) -> bool:
    """Whether steps to neighbours can lead from (0, 0) to (length - 1, 0) through all cells.

    On a chessboard each step changes the colour, so with an even number of cells the ends have unlike colours: not
    where the length is odd. And a single column is not left where it was entered.
    """
    return height == 1 or (length > 1 and not (length % 2 and height % 2 == 0))


def _walk(length: int, height: int) -> Iterator[Cell]:
    """All cells (along, across) of a rectangle from (0, 0) to (length - 1, 0), by steps to neighbours.

    Each part is `_possible`: cut lengthwise at an even place, both halves have an even length, or the height is odd;
    of Hilbert's four squares, the first and the last are as long as the even height at which they are cut, and the two
    in the middle are as long as all, on an odd height if that is odd.
    """
    assert _possible(length, height)
    if height == 1:
        yield from ((along, 0) for along in range(length))
    elif height == 2:
        for along in range(length):
            yield from ((along, across) for across in ((1, 0) if along % 2 else (0, 1)))
    elif 2 * length > 3 * height:
        cut = _even(length // 2)
        yield from _walk(cut, height)
        yield from ((cut + along, across) for along, across in _walk(length - cut, height))
    else:
        cut, low = length // 2, _even(height // 2)
        yield from ((along, across) for across, along in _walk(low, cut))  # up
        yield from ((along, low + across) for along, across in _walk(length, height - low))  # along
        yield from ((length - 1 - along, low - 1 - across) for across, along in _walk(low, length - cut))  # down


def _even(number: int) -> int:
    return number + number % 2
