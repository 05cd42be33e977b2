"""Finds the pictures of a folder, in the order in which a person counts: img2 before img10."""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm")
)


@dataclass(frozen=True)
class Picture:
    """A file that its name calls a picture.

    Attributes:
        root: The folder that was searched.
        name: Its path below that, with ``/``.
        size: In bytes.
    """

    root: Path
    name: str
    size: int

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.root / self.name

    @property
    def top(self) -> str:
        """The folder of the first level that it lies in; empty for none."""
        return self.name.partition("/")[0] if "/" in self.name else ""


@dataclass(frozen=True)
class Found:
    """What is in a folder.

    Attributes:
        pictures: In natural order of their names.
        others: Endings of the other files, and how many have each.
        broken: Links that lead nowhere, whatever their endings: a class may be behind one.
    """

    pictures: tuple[Picture, ...]
    others: Counter[str]
    broken: tuple[Path, ...] = ()

    def told_others(self) -> str:
        """The other files in a few words; empty for none."""
        most = sorted(self.others.items(), key=lambda one: (-one[1], one[0]))[:4]
        kinds = ", ".join(f"{count} {suffix or 'without an ending'}" for suffix, count in most)
        return f"{counted(self.others.total(), 'other file')} ({kinds})" if self.others else ""


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun: 1 file, 2 files.

    Args:
        number: Of things.
        one: What a single one is called.
        many: What several are called; None adds an s.
    """
    return f"{number} {one if number == 1 else many or one + 's'}"


def search(root: Path) -> Found:
    """All pictures below a folder; links are followed, hidden files passed over.

    Raises:
        ValueError: No such folder, or something in it that cannot be looked at.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "is not there"
        raise ValueError(f"root: {root} {what}; give the folder that holds the pictures")
    pictures, others, broken = [], Counter[str](), list[Path]()
    try:
        for entry in _files(str(root), frozenset(), broken):
            suffix = os.path.splitext(entry.name)[1].lower()
            if suffix in SUFFIXES:
                name = entry.path.removeprefix(str(root)).lstrip("/")  # root may be / itself
                pictures.append(Picture(root, name, entry.stat().st_size))
            else:
                others[suffix] += 1
    except OSError as error:
        raise ValueError(f"{error.filename}: {error.strerror}; make it readable, or take it out of {root}") from error
    in_order = tuple(sorted(pictures, key=lambda one: natural(one.name)))
    return Found(in_order, others, tuple(sorted(broken, key=lambda one: natural(str(one)))))


def natural(name: str) -> tuple[list[str | int], str]:
    """A key to sort by: runs of digits count as numbers; of equal ones (01 and 1) the text decides."""
    pieces = re.split(r"([0-9]+)", name)
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)], name


def _files(folder: str, above: frozenset[tuple[int, int]], broken: list[Path]) -> Iterator[os.DirEntry[str]]:
    """The files below a folder.

    Args:
        folder: Where.
        above: The folders that it lies in: a link back to one of them is a loop.
        broken: Links that lead nowhere are added here.
    """
    status = os.stat(folder)
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    with os.scandir(folder) as entries:
        inside = [entry for entry in entries if not entry.name.startswith(".")]
    for entry in inside:
        if _is_broken(entry):
            broken.append(Path(entry.path))
        elif entry.is_dir():
            yield from _files(entry.path, above | {here}, broken)
        else:
            yield entry


def _is_broken(entry: os.DirEntry[str]) -> bool:
    """Whether it is a link to nothing, or to itself; one to what may not be looked at is none."""
    if not entry.is_symlink():
        return False
    try:
        os.stat(entry.path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return True
        raise
    return False
