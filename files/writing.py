"""Files written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO


def aside(path: Path) -> Path:
    """Where a file is written before it takes its name: hidden, beside it."""
    return path.with_name(f".{path.name}.{os.getpid()}")


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes its name when all went well, and else is not there."""
    try:
        with open(aside(path), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside(path), path)
    finally:
        aside(path).unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file whole or not at all."""
    with written_whole(path) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON of a file; None when there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def set_aside(folder: Path) -> Path | None:
    """Rename a folder to `<name>.1` (or the next free number), so that it can be made anew; nothing is lost.

    Returns:
        Where it is now; None if there was none.
    """
    if not folder.exists():
        return None
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    folder.rename(aside)
    return aside
