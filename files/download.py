"""One file from the network, whole or not at all.

What comes is written aside and takes its name when its checksum is right: what a killed download leaves is never taken
for the file. A web page in its place, which is how file hosts say no, is told by its words.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from http.client import HTTPException
from itertools import chain
from pathlib import Path
from typing import Literal
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin
from urllib.request import Request, urlopen

from .progress import Progress

AGENT = "Mozilla/5.0 (dmf)"  # some hosts refuse Python's own name
TIMEOUT_S = 30  # without a byte
PIECE = 2**18  # bytes at a time
WORDS = 300  # letters of it that are told
UNSEEN = ("script", "style")
CONFIRM = "download-form"  # of Google Drive's page that says that it could not look for viruses
log = logging.getLogger("dmf")


@dataclass(frozen=True)
class Checksum:
    """What a file is known by.

    Attributes:
        kind: How it is computed.
        digits: Its hexadecimal digits; the first of them where no more are published, as in the names of torch's files.
    """

    kind: Literal["md5", "sha256"]
    digits: str

    def of(self, file: Path) -> str:
        """The file's own: all digits.

        Raises:
            OSError: It cannot be read.
        """
        digest = hashlib.new(self.kind, usedforsecurity=False)
        with open(file, "rb") as stream:
            while piece := stream.read(PIECE):
                digest.update(piece)
        return digest.hexdigest()

    def fits(self, digits: str) -> bool:
        """Whether a file with these digits, all of them, is meant."""
        return digits.startswith(self.digits)


class FetchError(OSError):
    """A file did not come: which, from where, and what was said instead."""


def fetch(addresses: Sequence[str], file: Path, checksum: Checksum) -> None:
    """Fetch a file from the first address that gives it; its folder is made.

    Args:
        addresses: Of the same file, tried in order.
        file: Where it goes.
        checksum: Of its content.

    Raises:
        FetchError: None gives it.
        OSError: The folder cannot be made.
    """
    aside = file.with_name(f".{file.name}.part")
    file.parent.mkdir(parents=True, exist_ok=True)
    refusals = []
    for address in addresses:
        try:
            _save(address, aside, file.name, checksum)
            os.replace(aside, file)
            return
        except (OSError, HTTPException, ValueError) as error:
            refusals.append(f"{address}: {_told(error)}")
        finally:
            aside.unlink(missing_ok=True)
    raise FetchError("\n  ".join([f"{file.name} did not come", *refusals]))


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else fetches into the folder meanwhile, which is made; who is killed lets go of it.

    Raises:
        OSError: It cannot be made or written into.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".fetching", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another process fetches into %s; waiting for it", folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def looks_like_a_page(start: bytes) -> bool:
    """Whether a file that begins so is a web page."""
    return re.match(rb"\s*(<!doctype html|<html|<head)", start, re.IGNORECASE) is not None


def words_of(page: str) -> str:
    """What a person would read on a web page: its title and the beginning of its text, on one line."""
    reader = _Reader()
    reader.feed(page)
    return " ".join(" ".join(reader.words).split())[:WORDS]


def _save(address: str, aside: Path, name: str, checksum: Checksum, confirmed: bool = False) -> None:
    """What comes from an address, into a file aside."""
    with urlopen(Request(address, headers={"User-Agent": AGENT}), timeout=TIMEOUT_S) as response:
        first = response.read(PIECE)
        if not looks_like_a_page(first):
            length = response.headers["Content-Length"]
            pieces = chain([first], iter(lambda: response.read(PIECE), b""))
            return _write(pieces, aside, name, None if length is None else int(length), checksum)
        page = first.decode("utf-8", "replace")
    further = None if confirmed else _confirmation(page)
    if further is None:
        raise ValueError(f"a web page came in its place: {words_of(page)!r}")
    _save(urljoin(address, further), aside, name, checksum, confirmed=True)


def _write(pieces: Iterable[bytes], aside: Path, name: str, length: int | None, checksum: Checksum) -> None:
    """Bytes into a file, with their number and checksum looked at."""
    digest = hashlib.new(checksum.kind, usedforsecurity=False)
    with open(aside, "wb") as file, Progress(f"fetch {name}", length, "B") as progress:
        for piece in pieces:
            file.write(piece)
            digest.update(piece)
            progress.step(len(piece))
        file.flush()
        os.fsync(file.fileno())
    if length is not None and progress.done != length:
        raise ValueError(f"the transfer broke off after {progress.done} of {length} bytes")
    came = digest.hexdigest()
    if not checksum.fits(came):
        raise ValueError(f"what came, {progress.done} bytes, has {checksum.kind} {came}, not {checksum.digits}")


def _told(error: Exception) -> str:
    """What went wrong; of a host's refusal also the words on its page."""
    said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    if isinstance(error, HTTPError):
        with contextlib.suppress(OSError, HTTPException):
            page = error.read(PIECE)
            said += f", {words_of(page.decode('utf-8', 'replace'))!r}" if looks_like_a_page(page) else ""
    return said


def _confirmation(page: str) -> str | None:
    """Where Google Drive's question leads, whether to fetch a file too large to be searched for viruses."""
    reader = _Reader()
    reader.feed(page)
    return f"{reader.action}?{urlencode(reader.fields)}" if reader.action else None


class _Reader(HTMLParser):
    """The words of a page, and the form of Google Drive's question."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.fields: dict[str, str] = {}
        self.action = ""
        self.unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.unseen += tag in UNSEEN
        if tag == "form":
            self.action = (given.get("action") or "") if given.get("id") == CONFIRM else ""
        if tag == "input" and self.action and given.get("type") == "hidden":
            self.fields[given.get("name") or ""] = given.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        self.unseen -= tag in UNSEEN

    def handle_data(self, data: str) -> None:
        if not self.unseen:
            self.words.append(data)
