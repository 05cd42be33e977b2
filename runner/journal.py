"""Lines of JSON by step: the history of a run and its evaluations, on disk before any tracker hears of them."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from ..files.writing import write_text
from .console import log
from .trouble import saving


class Journal:
    """Appends lines to a file, which is there from the first one on.

    Args:
        path: The file.
        step: Where training starts; later lines, from a run that was killed after its last checkpoint, are cut
            off, and damaged ones left out, which is said.
        holds: What each line has, by name, beside its step.

    Attributes:
        last: The newest line; None before the first.
    """

    def __init__(self, path: Path, step: int, *holds: str) -> None:
        lines = _whole_lines(path)
        rows = [row for line in lines if (row := _row(line, holds)) is not None]
        if damaged := len(lines) - len(rows):
            log.warning("%s: %d damaged line(s) left out; a crash or a full disk may have torn them", path, damaged)
        kept = [row for row in rows if row["step"] <= step]
        text = "".join(json.dumps(row) + "\n" for row in kept)
        if path.exists() and text != path.read_text(encoding="utf-8", errors="replace"):
            with saving(path.name):
                write_text(path, text)
        self.path = path
        self.last: Mapping[str, Any] | None = kept[-1] if kept else None
        self._file: TextIO | None = None

    @saving("a line of the history")
    def write(self, step: int, **fields: Any) -> None:
        """Add a line, with the time in Unix seconds."""
        if self._file is None:
            self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - open as long as the run
        self.last = {"step": step, "time": round(time.time(), 3), **_plain(fields)}
        self._file.write(json.dumps(self.last) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # each line is flushed; what a full disk did not take has been said
                self._file.close()


def _plain(value: Any) -> Any:
    """The value with None for what is no finite number: JSON has no NaN."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _row(line: str, holds: Sequence[str]) -> dict[str, Any] | None:
    """What a line says; None of one that is damaged, such as the zeros that a power cut leaves."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not isinstance(row.get("step"), int):
        return None
    return row if all(isinstance(row.get(name), dict) for name in holds) else None


def _whole_lines(path: Path) -> list[str]:
    """The lines of the file; a last one without its end, cut off by a crash, is left out."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8", errors="replace") as file:
        return [line for line in file if line.endswith("\n")]
