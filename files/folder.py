"""The pictures of a folder: found with all that is below it, links followed, in natural order; read whole."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from ..registry import UserError
from .listing import MAC_FORKS, MOST_BYTES, SUFFIXES, BadFile, Listing, ending
from .words import printable

NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # a link to nothing, to something below a file, to itself
SAMPLE_BYTES = 4096  # of the beginning, of the middle and of the end
KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


class Folder:
    """Files below a folder.

    Args:
        root: The folder.

    Raises:
        UserError: It is not there.
    """

    def __init__(self, root: Path) -> None:
        if not os.path.isdir(root):
            what = "is neither a folder nor a zip" if os.path.exists(root) else "is not there"
            raise UserError(f"{printable(str(root))} {what}; give the folder or the zip that holds the pictures")
        self.root = root

    def listing(self) -> Listing:
        """What is below it."""
        return _Search(str(self.root)).listing()

    def read(self, name: str) -> bytes:
        """The bytes of one of its files; `UserError` when it cannot be read."""
        return read_file(self.root / name)

    def sample(self, name: str) -> str:
        """A digest of the beginning, middle and end of one of its files; `UserError` when it cannot be read."""
        return hashlib.sha256(_of_file(self.root / name, _pieces)).hexdigest()

    def has(self, name: str) -> bool:
        """Whether there is something of this name."""
        return os.path.exists(self.root / name)

    def source(self, name: str) -> str:
        """What a message calls a file."""
        return printable(str(self.root / name))


def read_file(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        UserError: It is not there, closed to you, no file of the usual kind, beyond 1 GiB, or growing.
    """
    return _of_file(path, _whole)


def _of_file(path: Path, read: Callable[[int, int, Path], bytes]) -> bytes:
    """What ``read`` takes of an open file, of its number, its size and its path."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO without a writer would block
        try:
            status = os.fstat(number)
            if reason := unusable(status):
                raise BadFile(_called(path), reason)
            return read(number, status.st_size, path)
        finally:
            os.close(number)
    except FileNotFoundError:
        raise BadFile(_called(path), "is not there (no such file); put it there, or take it off the list") from None
    except OSError as error:
        raise BadFile(_called(path), f"cannot be read ({error.strerror}); make it readable, or take it away") from None


def _called(path: Path) -> str:
    """What a message calls a file; made for messages alone, as it takes as long as to read a small one."""
    return printable(str(path))


def _whole(number: int, size: int, path: Path) -> bytes:
    with open(number, "rb", buffering=0, closefd=False) as file:
        content = file.read(size + 1)  # never of a GiB: as much room is taken as is asked for
    if len(content) > size:
        raise BadFile(_called(path), "grew while it was read; wait until it is written, and start again")
    return content


def _pieces(number: int, size: int, path: Path) -> bytes:
    """All of a file that is no longer than they are."""
    if size <= 3 * SAMPLE_BYTES:
        return _whole(number, size, path)
    return b"".join(os.pread(number, SAMPLE_BYTES, at) for at in (0, (size - SAMPLE_BYTES) // 2, size - SAMPLE_BYTES))


TOO_LARGE = f"has more than {MOST_BYTES >> 30} GiB, too much for one picture; make it smaller, or take it away"


def unusable(status: os.stat_result) -> str:
    """Why a file cannot be a picture, known without opening it; empty when it can."""
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        return f"is {kind}, not a file; take it away"
    if status.st_size == 0:
        return "is empty; copy it anew, or take it away"
    return TOO_LARGE if status.st_size > MOST_BYTES else ""


class _Search:
    """One pass over a folder."""

    def __init__(self, root: str) -> None:
        self.root, self.start = root, len(root.rstrip("/")) + 1  # root may be / itself
        self.rows: list[tuple[str, int, int]] = []
        self.found = Listing()

    def listing(self) -> Listing:
        """What is there."""
        above = _identity(self.root)
        for top in self._look(self.root):
            self._below(top.path, {above})
        return self.found.filled(self.rows)

    def _below(self, top: str, seen: set[tuple[int, int]]) -> None:
        """All below a folder of the first level.

        Each folder is looked into once: what links lead back to, or to twice, ends there. Links come last, so that a
        picture has its own name where it has one.
        """
        own, linked = [top], list[str]()
        while own or linked:
            folder = own.pop() if own else linked.pop(0)
            here = _identity(folder)
            if here in seen:
                continue
            seen.add(here)
            for entry in sorted(self._look(folder), key=lambda one: one.name):
                (linked if entry.is_symlink() else own).append(entry.path)

    def _look(self, folder: str) -> list[os.DirEntry[str]]:
        """The folders in a folder; its files are put down."""
        try:
            with os.scandir(folder) as entries:
                inside = [one for one in entries if not one.name.startswith(".") and one.name != MAC_FORKS]
        except OSError as error:
            reason = f"cannot be looked into ({error.strerror}); make it readable, or take it away"
            if folder == self.root:
                raise UserError(f"{printable(folder)} {reason}") from None
            self.found.trouble.append((folder[self.start :], reason))
            return []
        return [entry for entry in inside if self._is_folder(entry)]

    def _is_folder(self, entry: os.DirEntry[str]) -> bool:
        """Whether it is one; if not, it is put down."""
        try:
            if entry.is_dir():
                return True
            suffix = ending(entry.name)
            status = entry.stat() if suffix in SUFFIXES or entry.is_symlink() else None
        except OSError as error:
            self.found.trouble.append((entry.path[self.start :], _why(entry, error)))
            return False
        if suffix not in SUFFIXES or status is None:
            self.found.others.append(entry.path[self.start :])
        elif reason := unusable(status):
            self.found.trouble.append((entry.path[self.start :], reason))
        else:
            self.rows.append((entry.path[self.start :], status.st_size, status.st_mtime_ns))
        return False


def _identity(folder: str) -> tuple[int, int]:
    """What a folder is, by whatever path; of one that cannot be looked at, nothing that another has."""
    try:
        status = os.stat(folder)
    except OSError:
        return -1, hash(folder)
    return status.st_dev, status.st_ino


def _why(entry: os.DirEntry[str], error: OSError) -> str:
    """Why it cannot be looked at."""
    if entry.is_symlink() and error.errno in NOWHERE:
        end = printable(os.readlink(entry.path))
        return f"is a link to {end}, which is not there; put it there, or delete the link"
    return f"cannot be looked at ({error.strerror}); make it readable, or take it away"
