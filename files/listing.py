"""What lies in a folder or a zip: which names are pictures', in the order of people, img2 before img10."""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..registry import UserError
from .words import printable

ENDINGS = {  # of the files of each format that is read, by Pillow's name of it
    "JPEG": ("jpg", "jpeg", "jpe", "jfif"),
    "MPO": ("jpg", "jpeg", "mpo"),
    "PNG": ("png", "apng"),
    "WEBP": ("webp",),
    "GIF": ("gif",),
    "BMP": ("bmp",),
    "DIB": ("dib", "bmp"),
    "TIFF": ("tif", "tiff"),
    "PPM": ("ppm", "pgm", "pbm", "pnm"),
    "AVIF": ("avif",),
    "JPEG2000": ("jp2", "j2k", "j2c", "jpc", "jpf", "jpx"),
}
SUFFIXES = frozenset(f".{ending}" for endings in ENDINGS.values() for ending in endings)
NOT_READ = frozenset((".heic", ".heif", ".hif", ".jxl", ".tga", ".ico", ".psd", ".svg", ".exr", ".dng", ".cr2", ".nef"))
MAC_FORKS = "__MACOSX"  # what a Mac puts into a zip beside the files
MOST_BYTES = 2**30  # of a picture's file: it is read whole


class BadFile(UserError):
    """A file that cannot be read or used.

    Args:
        source: What a message calls it.
        reason: Why, and what to do; to be read after the name.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(source, reason)
        self.source, self.reason = source, reason

    def __str__(self) -> str:
        return f"{self.source} {self.reason}"


@dataclass
class Listing:
    """What is in a folder or a zip.

    Attributes:
        names: Of the pictures, in natural order: paths below the root, with ``/``.
        sizes: Bytes of each, unpacked.
        stamps: Of each a number that changes when the file does.
        trouble: What cannot be used, known without opening it: name and reason.
        others: Names of the files that are no pictures by their endings.
    """

    names: list[str] = field(default_factory=list)
    sizes: array[int] = field(default_factory=lambda: array("q"))
    stamps: array[int] = field(default_factory=lambda: array("q"))
    trouble: list[tuple[str, str]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

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


def ending(name: str) -> str:
    """Of a file, in small letters and with its dot; empty for none."""
    return os.path.splitext(name)[1].lower()


def no_picture(name: str) -> str:
    """Why a file is no picture by its ending, to be read after its name."""
    suffix = ending(name)
    if not suffix:
        return "has no ending; if it is a picture, name it after its format, like a.png"
    if suffix in NOT_READ:
        return f"ends in {suffix}, a format that is not read; write it as PNG or JPEG"
    return f"ends in {printable(suffix)}, as no picture does"


def inside(name: str) -> str | None:
    """A path below a root as it is written here, ``\\`` being ``/``; None when it is absolute or climbs out."""
    name = name.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return None if name[:1] == "/" or name[1:3] == ":/" or ".." in parts else "/".join(parts)


def natural(name: str) -> tuple[list[str | int], str]:
    """A key to sort by: runs of digits count as numbers; of equal ones (01 and 1) the text decides."""
    pieces = re.split(r"([0-9]+)", name)
    return [int(piece, 16) if i % 2 else piece for i, piece in enumerate(pieces)], name  # 16: any number of digits
