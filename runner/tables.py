"""Tables of plain text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def table(rows: Sequence[Sequence[str]], left: int | None = None) -> Iterator[str]:
    """Rows in columns, a line each.

    Args:
        rows: Of equal length; the head is one of them.
        left: So many columns go to the left, the others to the right; None is all.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    at = len(widths) if left is None else left
    for row in rows:
        cells = [
            cell.ljust(width) if i < at else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
