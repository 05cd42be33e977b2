"""The files of a published set: how they are fetched and unpacked, what is said where they are not.

Addresses and checksums are torchvision's. The fetching is ours: its functions leave a killed download under the name of
the file, wait for a silent host for ever, and say little of what went wrong.
"""

from __future__ import annotations

import logging
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ...files.download import PIECE, Checksum, alone, fetch, looks_like_a_page
from ...files.progress import Progress

T = TypeVar("T")
# it is not there, or may not be read; torchvision's word for that; what tar and zlib say of a damaged archive
FAILURES = (OSError, RuntimeError, EOFError, tarfile.TarError, zlib.error)
log = logging.getLogger("dmf")


def _nothing() -> str:
    return ""


@dataclass(frozen=True)
class Remote:
    """A file of a set, as it is fetched.

    Attributes:
        file: Where it goes.
        md5: Of its content.
        addresses: Where it comes from, tried in order.
        instead: What of its content lies unpacked beside it, in words; empty where that is not all of it.
        unpack: Unpacks it, where it is not read packed.
    """

    file: Path
    md5: str
    addresses: tuple[str, ...]
    instead: Callable[[], str] = _nothing
    unpack: Callable[[], None] | None = None

    @property
    def whole(self) -> bool:
        """Whether the file itself is there, by its checksum."""
        from torchvision.datasets.utils import check_integrity

        return bool(check_integrity(str(self.file), self.md5))

    def state(self) -> str:
        """In a word or two, whether it is there."""
        if self.instead():
            return self.instead()
        try:
            if self.whole:
                return "ok"
            if not self.file.exists():
                return "missing"
            with open(self.file, "rb") as file:
                return "damaged: it is a web page" if looks_like_a_page(file.read(PIECE)) else "damaged"
        except OSError as error:
            return f"unreadable ({error.strerror})"


@dataclass(frozen=True)
class Published:
    """A set's files, and how to get them.

    Attributes:
        title: What people call the set.
        folder: Where its files lie.
        files: What is fetched.
        by_hand: What to do on a machine without a network; a clause.
        parent: What ``root`` has to hold.
        inside: What is unpacked from the files and has checksums of its own.
    """

    title: str
    folder: Path
    files: tuple[Remote, ...]
    by_hand: str
    parent: str
    inside: tuple[Remote, ...] = ()

    def opened(self, read: Callable[[], T], download: bool) -> T:
        """What ``read`` gives, after a download if need be.

        Args:
            read: Reads the set from its folder; RuntimeError or OSError where it is not there, or damaged.
            download: Whether to fetch what is missing. What lies there packed is unpacked in any case.

        Raises:
            ValueError: It is not to be had: what was looked for and tried, and what to do.
        """
        try:
            return read()
        except FAILURES as error:
            found = str(error)
        try:
            self._complete(download)
            return read()
        except FAILURES as error:
            raise ValueError(self._missing(found, str(error))) from error

    def _complete(self, download: bool) -> None:
        """Fetch and unpack what is not there; of several processes one does, the others wait for it."""
        if not download and not any(one.unpack and not one.instead() and one.whole for one in self.files):
            raise FileNotFoundError("download is false, so none was tried")
        with alone(self.files[0].file.parent):
            for one in self.files:
                if one.instead():  # another process may have been faster
                    continue
                if not one.whole:
                    if not download:
                        raise FileNotFoundError(f"download is false, so {one.file.name} was not fetched")
                    fetch(one.addresses, one.file, Checksum("md5", one.md5))
                if one.unpack:
                    log.info("unpack %s", one.file)
                    one.unpack()

    def _missing(self, found: str, tried: str) -> str:
        """What is the matter, what was looked for, what was tried, what to do."""
        known = (*self.files, *self.inside)
        width = max(len(one.file.name) for one in known)
        files = "".join(f"\n  {one.file.name:{width}}  md5 {one.md5}  {one.state()}" for one in known)
        return (
            f"{self.title} is not (whole) in {self.folder}: {found}\nlooked for{files}\n{tried}\n"
            f"to place it by hand: {self.by_hand};\n"
            f"or set dataset.root or DMF_DATA to the folder that holds {self.parent}"
        )


def unpack_tar(archive: Path, into: Path) -> None:
    """Write the plain files of an archive below a folder, each whole or not at all.

    Args:
        archive: A tar file, packed or not.
        into: The folder. A name that leads out of it is an error; links and devices are passed over.
    """
    with tarfile.open(archive) as tar, Progress(f"unpack {archive.name}", None, "files") as progress:
        for member in tar:
            target = Path(os.path.normpath(into / member.name))
            content = tar.extractfile(member) if member.isfile() else None
            if content is None:
                continue
            if not target.is_relative_to(into):
                raise RuntimeError(f"{archive} holds {member.name}, which leads out of its folder")
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = target.with_name(f".{target.name}.part")
            with open(aside, "wb") as file:
                shutil.copyfileobj(content, file)
            os.replace(aside, target)
            progress.step()
