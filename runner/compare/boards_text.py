"""Runs side by side on a screen: their values, and what differs between their recipes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...files.words import counted, few, printable, short
from ..tables import table
from .boards import Board, Cell, Row
from .differ import Line
from .runs import Run

LONG_NAME = 32  # letters of a run
LONG_VALUE = 24  # letters of a recipe's value
MOST_RUNS, MOST_LINES = 4, 30  # of a table of recipes


def values_told(boards: Sequence[Board], runs: Sequence[Run]) -> Iterator[str]:
    """A table for each board, footnotes and cautions beneath."""
    for board in boards:
        yield f"{board.title}:"
        yield from _table(board, runs)
        yield from (f"  [{number}] {printable(note)}" for number, note in enumerate(board.notes, 1))
        yield from (f"  caution: {printable(said)}" for said in board.cautions)
        yield ""
    without = [run.name for run in runs if not run.reports]
    if without:
        yield f"without values: {few(without)}; dmf evaluate RUN makes some"


def recipes_told(lines: Sequence[Line], runs: Sequence[Run]) -> Iterator[str]:
    """The keys that differ, where there is room for them."""
    if len(runs) > MOST_RUNS:
        yield f"{counted(len(lines), 'key')} of the recipes differ; --html FILE writes a page with all of it"
        return
    if lines:
        yield "recipes:"
        head = ["key", *(short(printable(run.name), LONG_VALUE) for run in runs)]
        yield from (f"  {line}" for line in table([head, *map(_line, lines[:MOST_LINES])], left=1))
    if len(lines) > MOST_LINES:
        yield f"  and {counted(len(lines) - MOST_LINES, 'key')} more; --html FILE writes a page with all of it"


def _line(line: Line) -> list[str]:
    return [line.name, *(short(printable(value), LONG_VALUE) for value in line.values)]


def _table(board: Board, runs: Sequence[Run]) -> Iterator[str]:
    """The rows, those of another setting beneath its name; settings with the same values share a head."""
    by_columns: dict[tuple[int, ...], list[Row]] = {}
    for setting in dict.fromkeys(row.setting for row in board.rows):
        rows = [row for row in board.rows if row.setting == setting]
        there = tuple(i for i in range(len(board.names)) if any(row.cells[i].text for row in rows))
        by_columns.setdefault(there, []).extend(rows)
    for columns, rows in by_columns.items():
        head = ["run", "trained", "images", *(printable(board.names[i]) for i in columns)]
        lines = [f"  {line}" for line in table([head, *(_row(row, columns, runs) for row in rows)], left=1)]
        yield f"  {lines[0]}" if rows[0].setting else lines[0]
        setting = ""
        for row, line in zip(rows, lines[1:], strict=True):
            if row.setting != setting:
                setting = row.setting
                yield f"  {printable(setting)}:"
            yield f"  {line}" if setting else line


def _row(row: Row, columns: Sequence[int], runs: Sequence[Run]) -> list[str]:
    cells = [_cell(row.cells[i]) for i in columns]
    return [short(printable(runs[row.run].name), LONG_NAME), row.trained, row.images, *cells]


def _cell(cell: Cell) -> str:
    return f"{cell.text} [{cell.note}]" if cell.note else cell.text or "-"
