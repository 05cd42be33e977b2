"""What dmf keeps because it takes long to make: indexes of folders, decoded pictures, latents.

A kept file says in its head of what it was made; it is written aside, flushed and renamed, so it is whole or it is not
there; its length and its checksum are looked at before it is used. Two processes that keep the same thing at once each
write their own, and the later one stays. What is opened holds memory, mapped, and no open file: thousands may be.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import struct
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from .places import home

START = struct.Struct("<8sQQI")  # mark, bytes of the head and of the body, checksum of both
MARK = b"dmfkept1"
PAGE = 4096  # the body starts on a page, to be mapped
PIECE = 2**24  # bytes
ABANDONED_S = 24 * 3600.0  # what is aside for so long, nobody writes any more
Bytes = np.ndarray[Any, np.dtype[np.uint8]]
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
        whole: Whether the checksum fits, which reads all of it.
    """

    head: Mapping[str, Any]
    body: Bytes
    whole: Callable[[], bool]


class Damaged(ValueError):
    """A file that is not as `keep` wrote it; the text says how that is seen."""


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
    """What is kept in a file, checked; None where there is none, and where it is damaged, which the log tells."""
    try:
        found = open_kept(path)
        if not found.whole():
            raise Damaged("its checksum does not fit")
        return found
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        log.warning("%s cannot be read (%s); what is in it is made anew", path, error.strerror)
        return None
    except Damaged as error:
        log.warning("%s is damaged (%s) and is made anew", path, error)
        return None


def open_kept(path: Path) -> Kept:
    """What is kept in a file, of which the length and the head are read, and nothing of the body.

    Raises:
        OSError: There is none, or it cannot be read just now.
        Damaged: It has another length, or no head.
    """
    with open(path, "rb") as file:
        length, begun = os.fstat(file.fileno()).st_size, file.read(START.size)
        if len(begun) < START.size:
            raise Damaged(f"{length} bytes long")
        mark, head_bytes, body_bytes, checksum = START.unpack(begun)
        start = _paged(START.size + head_bytes)
        if mark != MARK or length != start + body_bytes:
            raise Damaged(f"{length} bytes long, not {start + body_bytes}")
        text = file.read(head_bytes)
        body = _mapped(file, length)[start:]
    try:
        head = json.loads(text)
    except ValueError as error:
        raise Damaged(f"its head is no JSON: {error}") from error
    return Kept(head, body, lambda: _checksum([text, *_pieces(body)]) == checksum)


def head_of(path: Path) -> Mapping[str, Any] | None:
    """What `keep` was told of a file, which is not looked at further; None of one that it did not write."""
    try:
        with open(path, "rb") as file:
            mark, head_bytes, *_ = START.unpack(file.read(START.size))
            head = json.loads(file.read(head_bytes)) if mark == MARK else None
    except (OSError, ValueError, struct.error):
        return None
    return head if isinstance(head, dict) else None


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


def _mapped(file: IO[bytes], length: int) -> Bytes:
    """All of an open file: of this one, though another process may put a new one in its place at any time.

    Memory maps of Python hold a descriptor each, which are few; those of torch hold none.

    Raises:
        OSError: It cannot be mapped.
    """
    try:
        place = f"/dev/fd/{file.fileno()}"
        whole = torch.from_file(place, shared=False, size=length, dtype=torch.uint8, device="cpu")
    except RuntimeError as error:
        raise OSError(errno.ENOMEM, f"cannot be mapped: {error}", file.name) from error
    found: Bytes = whole.numpy()
    return found


def _checksum(pieces: Iterable[bytes | memoryview]) -> int:
    checksum = 0
    for piece in pieces:
        checksum = zlib.crc32(piece, checksum)
    return checksum


def _pieces(body: Bytes) -> Iterator[memoryview]:
    return (body[at : at + PIECE].data for at in range(0, len(body), PIECE))


def _paged(length: int) -> int:
    return -(-length // PAGE) * PAGE


def _sweep(folder: Path) -> None:
    """Delete what processes that were killed left aside."""
    for file in folder.glob(".*"):
        with contextlib.suppress(OSError):
            if time.time() - file.stat().st_mtime > ABANDONED_S:
                file.unlink()
