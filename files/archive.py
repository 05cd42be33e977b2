"""The pictures of a zip, read in place.

The directory is read once, by Python's zipfile. A picture is then read at its place in the file (PKWARE's APPNOTE
6.3.10, section 4.3.7) without a common position, so that threads and forked processes do not wait for each other, and
unpacked to no more bytes than the directory says.
"""

from __future__ import annotations

import os
import stat
import struct
import threading
import weakref
import zipfile
import zlib
from array import array
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ..registry import UserError
from .listing import MAC_FORKS, MOST_BYTES, SUFFIXES, BadFile, Listing, ending, inside
from .prepared import IMAGES, MANIFEST
from .words import printable

HEAD = struct.Struct("<4s22xHH")  # of a member: its mark, the lengths of its name and of what is extra
MARK = b"PK\x03\x04"
SUSPECT_BYTES = 2**26  # what unpacks to so much ...
SUSPECT_RATIO = 100  # ... from so many times less is no picture: a PNG or JPEG hardly packs
UTF_8 = 0x800  # the flag of a member whose name is in it
DAMAGED = "is damaged, or the zip has changed since it was opened; copy the zip anew, or take the file out"
OTHER_METHODS = {9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "zstd", 95: "xz", 99: "AES"}


class Archive:
    """Files in a zip. It can be pickled: each process opens the file anew.

    If all lies in a single folder, that is looked into: so people pack folders; of what `dmf data prepare` made, its
    pictures. Hidden files and ``__MACOSX`` are passed over.

    Args:
        root: The zip.
        classes: Folders are classes: one with nothing but pictures in it is a class, even if it is the only one.

    Raises:
        UserError: It is no zip or a damaged one, has names that climb out of it, or members that share bytes.
    """

    def __init__(self, root: Path, *, classes: bool = False) -> None:
        self.root = root
        members = _members(root)
        _check_bytes(members, root)
        files = _files(members, root)
        self.top = _prepared(_common_folder([name for name, _ in files], classes), {name for name, _ in files})
        files = [(name[len(self.top) :], one) for name, one in files if name.startswith(self.top)]
        names = [name for name, _ in files]
        self._rows = {name: row for row, name in enumerate(names)}
        self._twice = {name for name, count in Counter(names).items() if count > 1}
        # what reading needs, as columns: a hundred thousand objects would be slow to pickle
        self._at = array("Q", (one.header_offset for _, one in files))
        self._packed = array("Q", (one.compress_size for _, one in files))
        self._size = array("Q", (one.file_size for _, one in files))
        self._sum = array("L", (one.CRC for _, one in files))
        self._method = array("H", (one.compress_type for _, one in files))
        self._flags = array("H", (one.flag_bits for _, one in files))
        self._mode = array("L", (one.external_attr >> 16 for _, one in files))
        self._opening = threading.Lock()
        self._number: int | None = None
        self._handle()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_opening", "_number")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._opening, self._number = threading.Lock(), None

    def listing(self) -> Listing:
        """What is in it."""
        found, rows = Listing(), list[tuple[str, int, int]]()
        for name, row in self._rows.items():
            if ending(name) not in SUFFIXES:
                found.others.append(name)
            elif reason := self._unusable(name, row):
                found.trouble.append((name, reason))
            else:
                rows.append((name, self._size[row], self._sum[row]))
        return found.filled(rows)

    def read(self, name: str) -> bytes:
        """The bytes of one of its files.

        Raises:
            UserError: It cannot be read or is damaged.
        """
        row = self._rows[name]
        if reason := self._unusable(name, row):
            raise BadFile(self.source(name), reason)
        packed, size = self._bytes_of(row, name), self._size[row]
        try:  # one byte more than there should be: what lies about its size is seen, and never unpacked whole
            content = packed if self._method[row] == zipfile.ZIP_STORED else _inflated(packed, size + 1)
        except zlib.error as error:
            raise BadFile(self.source(name), f"{DAMAGED} ({error})") from None
        if len(content) != size:
            raise BadFile(self.source(name), f"{DAMAGED} (it does not have the {size} bytes that the zip names)")
        if zlib.crc32(content) != self._sum[row]:
            raise BadFile(self.source(name), f"{DAMAGED} (its checksum is another)")
        return content

    def sample(self, name: str) -> str:
        """The checksum of one of its files, as the zip has it: nothing is read."""
        return f"{self._sum[self._rows[name]]:08x}"

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return name in self._rows

    def source(self, name: str) -> str:
        """What a message calls a file: animals.zip:cat/1.png."""
        inner = self.top + name
        return printable(f"{self.root}:{inner}" if inner else str(self.root))

    def _unusable(self, name: str, row: int) -> str:
        """Why a member cannot be read; empty when it can."""
        size, packed, method, kind = self._size[row], self._packed[row], self._method[row], stat.S_IFMT(self._mode[row])
        if name in self._twice:
            return "is in the zip more than once; pack it anew"
        if kind not in (0, stat.S_IFREG):
            link = kind == stat.S_IFLNK
            return "is a link, not a file; pack the file that it leads to" if link else "is no file; take it out"
        if self._flags[row] & 1:
            return "is encrypted; pack it anew without a password"
        if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return f"is packed with {OTHER_METHODS.get(method, f'method {method}')}; pack it anew with deflate"
        if size == 0:
            return "is empty; pack it anew, or take it out"
        if max(size, packed) > MOST_BYTES or (size > SUSPECT_BYTES and size > SUSPECT_RATIO * packed):
            return (
                f"unpacks from {packed:,} to {size:,} bytes, like a zip bomb; take it out, or write it as PNG or JPEG"
            )
        return ""

    def _bytes_of(self, row: int, name: str) -> bytes:
        """A member as it is packed."""
        try:
            head = os.pread(self._handle(), HEAD.size, self._at[row])
            if len(head) < HEAD.size or head[:4] != MARK:
                raise BadFile(self.source(name), f"{DAMAGED} (it does not begin where the zip says)")
            _, name_bytes, extra_bytes = HEAD.unpack(head)
            return os.pread(self._handle(), self._packed[row], self._at[row] + HEAD.size + name_bytes + extra_bytes)
        except OSError as error:
            raise BadFile(self.source(name), f"cannot be read ({error.strerror}); make it readable") from None

    def _handle(self) -> int:
        """The number of the file, opened once in a process."""
        with self._opening:
            if self._number is None:
                self._number = os.open(self.root, os.O_RDONLY | os.O_CLOEXEC)
                weakref.finalize(self, os.close, self._number)
            return self._number


def _inflated(packed: bytes, most: int) -> bytes:
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, most)


def _members(root: Path) -> list[zipfile.ZipInfo]:
    """The directory of a zip."""
    try:
        with zipfile.ZipFile(root) as opened:
            return opened.infolist()
    except OSError as error:
        raise UserError(f"{printable(str(root))} cannot be read ({error.strerror}); make it readable") from None
    except Exception as error:  # whatever zipfile says of bytes that it cannot make out; they have no common base
        with open(root, "rb") as file:
            begun = file.read(len(MARK)) == MARK
        said = "" if "not a zip" in str(error) else f" ({error})"
        what = f"is a zip that is cut short or damaged{said}; copy it anew"
        if not begun:
            what = f"is a file, but no zip{said}; give a folder or a zip"
        raise UserError(f"{printable(str(root))} {what}") from error


def _check_bytes(members: Sequence[zipfile.ZipInfo], root: Path) -> None:
    """Accept members that lie in the file, each in bytes of its own.

    Raises:
        UserError: They do not: the zip is cut or damaged, or a bomb whose members share what they unpack.
    """
    end, above = root.stat().st_size, 0
    for one in sorted(members, key=lambda one: one.header_offset):
        if one.header_offset < above:
            raise UserError(
                f"{printable(f'{root}:{one.filename}')} lies over another file of the zip, as in zip bombs and damaged "
                "zips; copy it anew, or pack it anew"
            )
        above = one.header_offset + HEAD.size + one.compress_size
    if above > end:
        raise UserError(
            f"{printable(str(root))} is cut short: it has {end:,} bytes of at least {above:,}; copy it anew"
        )


def _files(members: Sequence[zipfile.ZipInfo], root: Path) -> list[tuple[str, zipfile.ZipInfo]]:
    """The files with their names as they are written here; hidden ones passed over.

    Raises:
        UserError: A name is absolute or climbs out.
    """
    files = []
    for one in members:
        written = _decoded_name(one)
        name = inside(written)
        if name is None:
            raise UserError(
                f"{printable(str(root))} has the name {printable(written)!r}, which leads out of the zip; if you trust "
                "it, pack it anew with names below one folder"
            )
        parts = name.split("/")
        if written[-1:] not in ("/", "\\", "") and MAC_FORKS not in parts and not any(p[:1] == "." for p in parts):
            files.append((name, one))
    return files


def _decoded_name(one: zipfile.ZipInfo) -> str:
    """The name; UTF-8 where its bytes are that, flagged or not: many a tool forgets the flag."""
    if one.flag_bits & UTF_8 or one.filename.isascii():
        return one.filename
    try:
        return one.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return one.filename


def _common_folder(names: Sequence[str], classes: bool) -> str:
    """The single folder that all lies in, with ``/``; empty when there is none, or when it is the one class."""
    top = names[0].partition("/")[0] + "/" if names else ""
    if any(not name.startswith(top) for name in names):
        return ""
    return top if not classes or any("/" in name[len(top) :] for name in names) else ""


def _prepared(top: str, names: Collection[str]) -> str:
    """The folder of the pictures in a zip of a prepared set; of another zip the one that is given."""
    images = f"{top}{IMAGES}/"
    return images if f"{top}{MANIFEST}" in names and any(name.startswith(images) for name in names) else top
