"""What dmf keeps because it takes long to make: indexes of folders, decoded pictures, latents.

A kept file says in its head of what it was made; it is written aside, flushed and renamed, so it is whole or it is not
there; its length and its checksum are looked at before it is used. Two processes that keep the same thing at once each
write their own, and the later one stays.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import struct
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .places import home

START = struct.Struct("<8sQQI")  # mark, bytes of the head and of the body, checksum of both
MARK = b"dmfkept1"
PAGE = 4096  # the body starts on a page, to be mapped
PIECE = 2**24  # bytes
ABANDONED_S = 24 * 3600.0  # what is aside for so long, nobody writes any more
log = logging.getLogger("dmf")


def cache_folder(what: str) -> Path:
    """The folder of one kind of cached things: below DMF_CACHE, or XDG_CACHE_HOME/dmf, or ~/.cache/dmf; absolute.

    Args:
        what: For example ``latents``. The folder may not be there yet.
    """
    named = os.environ.get("DMF_CACHE")
    base = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "dmf"
    return home(base).absolute() / what


@dataclass(frozen=True)
class Kept:
    """A kept file.

    Attributes:
        head: What `keep` was told of it.
        body: Its bytes, uint8 (n,), mapped: read when they are looked at. To write into them changes no file.
    """

    head: Mapping[str, Any]
    body: np.ndarray[Any, np.dtype[np.uint8]]


def keep(path: Path, head: Mapping[str, Any], body: Iterable[bytes | memoryview]) -> bool:
    """Keep bytes in a file; False, and a warning, where that is not possible.

    Args:
        path: The file; its folder is made.
        head: Of what the bytes were made, as JSON says it.
        body: The bytes, in pieces.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        try:
            _write(aside, json.dumps(head).encode(), body)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        log.warning("cannot keep %s (%s); what would be in it is made anew each time", path, error.strerror)
        return False
    return True


def kept(path: Path) -> Kept | None:
    """What is kept in a file; None where there is none, and where it is damaged, which the log tells."""
    try:
        with open(path, "rb") as file:
            mark, head_bytes, body_bytes, checksum = START.unpack(file.read(START.size))
            start, length = _paged(START.size + head_bytes), os.fstat(file.fileno()).st_size
            if mark != MARK or length != start + body_bytes:
                raise ValueError(f"{length} bytes long, not {start + body_bytes}")
            head = file.read(head_bytes)
            # of the open file: another process may put a new one in its place at any time
            body = np.memmap(file, np.uint8, "c", start) if body_bytes else np.empty(0, np.uint8)
        if _checksum([head, *_pieces(body)]) != checksum:
            raise ValueError("its checksum does not fit")
        return Kept(json.loads(head), body)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        log.warning("%s cannot be read (%s); what is in it is made anew", path, error.strerror)
        return None
    except (ValueError, struct.error) as error:
        log.warning("%s is damaged (%s) and is made anew", path, error)
        return None


def head_of(path: Path) -> Mapping[str, Any] | None:
    """What `keep` was told of a file, which is not looked at further; None of one that it did not write."""
    try:
        with open(path, "rb") as file:
            mark, head_bytes, *_ = START.unpack(file.read(START.size))
            head = json.loads(file.read(head_bytes)) if mark == MARK else None
    except (OSError, ValueError, struct.error):
        return None
    return head if isinstance(head, dict) else None


def told_size(length: int) -> str:
    """Bytes as a person reads them: 1.2 GiB."""
    for unit, one in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if length >= one:
            return f"{length / one:.1f} {unit}"
    return f"{length} bytes"


def _write(path: Path, head: bytes, body: Iterable[bytes | memoryview]) -> None:
    checksum, length = zlib.crc32(head), 0
    with open(path, "wb") as file:
        file.seek(_paged(START.size + len(head)))
        for piece in body:
            file.write(piece)
            checksum, length = zlib.crc32(piece, checksum), length + memoryview(piece).nbytes
        file.seek(0)
        file.write(START.pack(MARK, len(head), length, checksum) + head)
        file.truncate(_paged(START.size + len(head)) + length)
        file.flush()
        os.fsync(file.fileno())


def _checksum(pieces: Iterable[bytes | memoryview]) -> int:
    checksum = 0
    for piece in pieces:
        checksum = zlib.crc32(piece, checksum)
    return checksum


def _pieces(body: np.ndarray[Any, np.dtype[np.uint8]]) -> Iterator[memoryview]:
    return (body[at : at + PIECE].data for at in range(0, len(body), PIECE))


def _paged(length: int) -> int:
    return -(-length // PAGE) * PAGE


def _sweep(folder: Path) -> None:
    """Delete what processes that were killed left aside."""
    for file in folder.glob(".*"):
        with contextlib.suppress(OSError):
            if time.time() - file.stat().st_mtime > ABANDONED_S:
                file.unlink()
