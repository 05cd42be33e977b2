"""Names of pictures: which are pictures', the order in which a person counts, img2 before img10, how one is shown."""

from __future__ import annotations

import errno
import os
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm")
)
MOST_NAMED = 10  # lines in one message
MAC_FORKS = "__MACOSX"  # what a Mac puts into a zip beside the files
MOST_BYTES = 2**30  # of a picture's file: it is read whole


@dataclass
class Listing:
    """What is in a folder or a zip.

    Attributes:
        names: Of the pictures, in natural order: paths below the root, with ``/``.
        sizes: Bytes of each, unpacked.
        stamps: Of each a number that changes when the file does.
        trouble: What cannot be used, known without opening it: name and reason.
        others: Endings of the files that are no pictures, and how many have each.
    """

    names: list[str] = field(default_factory=list)
    sizes: array[int] = field(default_factory=lambda: array("q"))
    stamps: array[int] = field(default_factory=lambda: array("q"))
    trouble: list[tuple[str, str]] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def filled(self, rows: Iterable[tuple[str, int, int]]) -> Listing:
        """This, with pictures (name, size, stamp) from any order."""
        rows = sorted(rows, key=lambda row: natural(row[0]))
        self.names = [name for name, _, _ in rows]
        self.sizes, self.stamps = array("q", (row[1] for row in rows)), array("q", (row[2] for row in rows))
        return self

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these pictures alone."""
        self.names = [self.names[row] for row in rows]
        self.sizes, self.stamps = (array("q", (column[row] for row in rows)) for column in (self.sizes, self.stamps))


def printable(text: str) -> str:
    """A name with what cannot be shown (control characters, bytes that are no UTF-8) as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def inside(name: str) -> str | None:
    """A path below a root as it is written here, ``\\`` being ``/``; None when it is absolute or climbs out."""
    name = name.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return None if name[:1] == "/" or name[1:3] == ":/" or ".." in parts else "/".join(parts)


def few(names: Sequence[str]) -> str:
    """The first four, in one line."""
    return ", ".join(map(printable, names[:4])) + (", ..." if len(names) > 4 else "")


def a_line_each(lines: Sequence[str]) -> str:
    """The first ten of them, and how many more there are; each after a break."""
    more = [f"and {len(lines) - MOST_NAMED} more"] if len(lines) > MOST_NAMED else []
    return "".join(f"\n  {line}" for line in [*lines[:MOST_NAMED], *more])


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
    return [int(piece, 16) if i % 2 else piece for i, piece in enumerate(pieces)], name  # 16: any number of digits


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
