"""Bars of plain text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...files.words import short

BAR = 40  # letters of the longest
MOST = 30  # rows of bars
LONG_NAME = 40


def bars(counts: Mapping[str, int], most: int = MOST) -> Iterator[str]:
    """A line each: name, number, a bar; the rest of many in one line."""
    shown = [(short(name, LONG_NAME), count) for name, count in list(counts.items())[:most]]
    width, top = max((len(name) for name, _ in shown), default=0), max(counts.values(), default=0)
    digits = len(f"{top:,}")
    for name, count in shown:
        bar = "█" * round(BAR * count / max(top, 1)) or ("▏" if count else "")
        yield f"  {name.ljust(width)}  {count:>{digits},}  {bar}".rstrip()
    if len(counts) > most:
        rest = list(counts.values())[most:]
        yield f"  and {len(rest)} more, {min(rest):,} to {max(rest):,} each"
