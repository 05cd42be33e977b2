"""Files with one JSON text a line, which a run may be writing at this moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ...files.words import counted

Row = TypeVar("Row")


def rows(path: Path, taken: Callable[[Any], Row], troubles: list[str]) -> Iterator[Row]:
    """What ``taken`` makes of each whole line; a last one without its end is being written, and is left out.

    Args:
        path: The file; one that is not there has no lines.
        taken: Makes a row of a line's value; raises ValueError, TypeError, KeyError or AttributeError of a wrong one.
        troubles: Lines that are none are told here, in one sentence.
    """
    if not path.exists():
        return
    bad = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                break
            try:
                row = taken(json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError):
                bad.append(number)
                continue
            yield row
    if bad:
        troubles.append(f"{path.name}: {counted(len(bad), 'line')} left out that cannot be read: {_numbers(bad)}")


def _numbers(bad: Sequence[int]) -> str:
    return ", ".join(map(str, bad[:4])) + (", ..." if len(bad) > 4 else "")
