"""What lies in the cache folder, for a person; deleting it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files.cache import head_of
from .latents.store import LOCKS, read_head

NAMELESS = "damaged, or of another version"


@dataclass(frozen=True)
class Cached:
    """Something that is kept.

    Attributes:
        kind: Of what kind: index, pixels, latents, reference.
        path: A file, or a folder.
        size: In bytes.
        about: What it was made of.
    """

    kind: str
    path: Path
    size: int
    about: str


def found(root: Path, kinds: Sequence[str]) -> list[Cached]:
    """All that is kept, the largest of each kind first."""
    rows = [
        Cached(kind, path, _size(path), _about_latents(path) if path.is_dir() else _about_file(path))
        for kind in kinds
        for path in sorted((root / kind).glob("[!.]*"))
    ]
    return sorted(rows, key=lambda one: (one.kind, -one.size))


def clear(root: Path, kinds: Sequence[str]) -> tuple[int, list[Path]]:
    """Delete what is kept.

    Returns:
        The bytes that were deleted, and what was left because a run has it open now.

    Raises:
        OSError: Something cannot be deleted.
    """
    freed, in_use = 0, []
    for path in (path for kind in kinds for path in (root / kind).glob("*")):
        with _alone(path) as alone:
            if not alone:
                in_use.append(path)
                continue
            freed += _size(path)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    return freed, in_use


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether no run has the cache open; none opens it meanwhile."""
    if not (path / LOCKS).is_file():
        yield True
        return
    with open(path / LOCKS, "ab") as locks:
        try:
            fcntl.lockf(locks, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except OSError as error:  # of others: a file system without locks
            alone = error.errno not in (errno.EACCES, errno.EAGAIN)
        yield alone


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size


def _about_file(path: Path) -> str:
    head = head_of(path)
    return str(head.get("of", path.name)) if head is not None else NAMELESS


def _about_latents(path: Path) -> str:
    head = read_head(path)
    try:
        return NAMELESS if head is None else _told(head, len(list(path.glob("*.moments"))))
    except (KeyError, TypeError, AttributeError):
        return NAMELESS


def _told(head: dict[str, Any], files: int) -> str:
    """What a cache of latents was made of, in a few words."""
    shards = -(-head["images"] // head["images_per_shard"])
    whole = "" if files == shards else f", {files} of {shards} files"
    weights = str(head["facts"].get("weights", ""))[:12]
    through = f"{head['codec']} {weights}".rstrip()
    mirrored = " mirrored" if head["mirrored"] else ""
    return (
        f"{head['images']:,} images of {head['dataset']}{mirrored}, {head['dtype']}, by {through}, "
        f"first for run {head['run']}{whole}"
    )
