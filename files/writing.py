"""Files written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..registry.errors import UserError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)  # the disk is full, or a person's share of it


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
    except OSError as error:
        if error.errno in NO_ROOM:  # of a write the system tells no name
            error.filename = str(path)
        raise
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


def read_json(path: Path, **holds: type | tuple[type, ...]) -> dict[str, Any] | None:
    """The JSON object of a file, as `write_json` writes it; None when there is no file.

    Args:
        path: The file.
        holds: What it must have in it, each value of such a type.

    Raises:
        UserError: It cannot be read, or holds something else; a file that was edited, or torn by another program.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(_damaged(path, f"it is no JSON ({error})")) from None
    if not isinstance(found, dict):
        raise UserError(_damaged(path, f"{type(found).__name__} in place of an object"))
    for name, kind in holds.items():
        if not isinstance(found.get(name), kind):
            raise UserError(_damaged(path, f"it lacks {name}, or has {found.get(name)!r} for it"))
    return found


def _damaged(path: Path, why: str) -> str:
    return f"{path} is damaged: {why}. Bring it back from a copy; or remove it, to go on without what it says"


def set_aside(folder: Path) -> Path | None:
    """Rename a folder to `<name>.1` (or the next free number), so that it can be made anew; nothing is lost.

    Returns:
        Where it is now; None if there was none.

    Raises:
        UserError: The system refuses.
    """
    if not folder.exists():
        return None
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    try:
        folder.rename(aside)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be renamed to {aside}: {error.strerror}; rename it yourself, or choose another place"
        ) from None
    return aside
