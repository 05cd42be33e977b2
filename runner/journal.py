"""The history of a run: one line of JSON per logged step, on disk before any tracker hears of it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

from ..files.writing import write_text


class Journal:
    """Appends to ``history.jsonl``.

    Args:
        path: The file.
        step: Where training starts; later lines, from a run that was killed after its last checkpoint, are cut off.
    """

    def __init__(self, path: Path, step: int) -> None:
        kept = [line for line in _whole_lines(path) if json.loads(line)["step"] <= step]
        if path.exists():
            write_text(path, "".join(kept))
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - open as long as the run

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add a line, with the time in Unix seconds."""
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}  # JSON has no NaN
        self._file.write(json.dumps({"step": step, "time": round(time.time(), 3), "values": finite}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _whole_lines(path: Path) -> list[str]:
    """The lines of the file; a last one without its end, cut off by a crash, is left out."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8") as file:
        return [line for line in file if line.endswith("\n")]
