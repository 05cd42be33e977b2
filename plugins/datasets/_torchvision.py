"""What the sets that torchvision fetches share: where they lie, the fetching, and what is said where they are not.

torchvision knows their addresses and checksums; here is what it leaves unsaid when something fails.
"""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
# no network, no permission, a full disk, a broken transfer; what torchvision or tar calls a damaged archive
FAILURES = (OSError, HTTPException, RuntimeError, EOFError, tarfile.TarError, zlib.error)


def data_folder(root: str | None) -> Path:
    """The folder of the data sets: ``root``, or the environment variable DMF_DATA, or ``data``; absolute."""
    return Path(root or os.environ.get("DMF_DATA") or "data").expanduser().absolute()


def _nothing(name: str) -> str:
    return ""


@dataclass(frozen=True)
class Source:
    """A set's files, and how to get them.

    Attributes:
        title: What people call the set.
        folder: Where its files lie.
        files: Name and md5 of each.
        address: Where torchvision fetches them.
        by_hand: What to do on a machine without a network; a clause.
        parent: What ``root`` has to hold.
        instead: Of a file's name, what stands in for it, such as what was in an archive; empty for nothing.
    """

    title: str
    folder: Path
    files: tuple[tuple[str, str], ...]
    address: str
    by_hand: str
    parent: str
    instead: Callable[[str], str] = _nothing

    def opened(self, read: Callable[[], T], fetch: Callable[[], object], download: bool) -> T:
        """What ``read`` gives, after a download if need be.

        Args:
            read: Reads the set from its folder; RuntimeError or OSError where it is not there, or damaged.
            fetch: Downloads what is missing.
            download: Whether that is allowed.

        Raises:
            ValueError: It is not to be had: what was looked for and tried, and what to do.
        """
        try:
            return read()
        except (RuntimeError, OSError) as error:
            if not download:
                raise ValueError(self._missing("download is false, so none was tried")) from error
        try:
            fetch()
            return read()
        except FAILURES as error:
            tried = f"the download from {self.address} failed: {type(error).__name__}: {error}"
            raise ValueError(self._missing(tried)) from error

    def _missing(self, tried: str) -> str:
        """What was looked for, what was tried, what to do."""
        width = max(len(name) for name, _ in self.files)
        files = "".join(f"\n  {name:{width}}  md5 {md5}  {self._state(name, md5)}" for name, md5 in self.files)
        return (
            f"{self.title} is not (whole) in {self.folder}; looked for{files}\n{tried}\n"
            f"to place it by hand: {self.by_hand};\n"
            f"or set dataset.root or DMF_DATA to the folder that holds {self.parent}"
        )

    def _state(self, name: str, md5: str) -> str:
        from torchvision.datasets.utils import check_integrity

        if self.instead(name):
            return self.instead(name)
        try:
            whole = check_integrity(str(self.folder / name), md5)
        except OSError as error:
            return f"unreadable ({error.strerror})"
        return "ok" if whole else "damaged" if (self.folder / name).exists() else "missing"
