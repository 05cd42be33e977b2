"""What became of each picture of the sources: a file of one JSON a line, the first about the whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

MADE_BY = "dmf data prepare"


@dataclass(frozen=True)
class Record:
    """A picture of the sources.

    Attributes:
        source: Its file; a member of a zip is ``animals.zip:cat/1.png``.
        sha256: Of the file.
        width: In pixels, upright.
        height: Likewise.
        mode: Pillow's, as the file has it.
        frames: How many the file has, where it is more than the first one, which is taken; 2 may stand for several.
        label: The name of its class.
        pixels: Digest of what it decodes to, whole: two files with one digest are the same picture.
        file: Where it is now, below the folder of the manifest; None if it was left out.
        file_sha256: Of that file.
        left_out: Why not, in a word or two; the same for all of a kind.
        reason: Why not, in full, to be read after the source.
    """

    source: str
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    mode: str | None = None
    frames: int | None = None
    label: str | None = None
    pixels: str | None = None
    file: str | None = None
    file_sha256: str | None = None
    left_out: str | None = None
    reason: str | None = None


NAMES = tuple(field.name for field in fields(Record))


def record_line(record: Record) -> str:
    """A record as its line; what is None is not in it."""
    values = {name: getattr(record, name) for name in NAMES}
    return line({name: value for name, value in values.items() if value is not None})


def line(value: Mapping[str, Any]) -> str:
    """A mapping as a line of UTF-8; names of files that are no UTF-8 are escaped."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value)
    return text + "\n"


def head_of(file: Path) -> dict[str, Any] | None:
    """The first line of a manifest; None if the file is none."""
    try:
        with open(file, "rb") as opened:
            text = opened.readline()
        head = json.loads(text)
    except (OSError, ValueError):
        return None
    whole = text.endswith(b"\n")
    return head if whole and isinstance(head, dict) and head.get("made_by") == MADE_BY else None


def records(file: Path) -> Iterator[tuple[Record, int]]:
    """The records of a manifest, each with where it ends in bytes; a line that was not written whole ends them."""
    with open(file, "rb") as opened:
        end = len(opened.readline())
        for text in opened:
            end += len(text)
            record = _record(text)
            if record is None:
                return
            yield record, end


def _record(text: bytes) -> Record | None:
    if not text.endswith(b"\n"):
        return None
    try:
        return Record(**json.loads(text))
    except (ValueError, TypeError):
        return None
