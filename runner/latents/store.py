"""The moments of one set of images on disk: a folder of shards, known by what they are made of.

Any number of processes, of one run or of several, may read and write it at once: a shard is claimed before it is
made, and never changed once it is there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from ...files.cache import Damaged
from ...files.writing import read_json, write_json
from ...registry import UserError
from ..console import log
from .shards import SUMS, fits, open_shard, summed, write_shard

FORMAT = 2  # of the shards; another one makes another cache
HEAD, LOCKS = "cache.json", "locks"
HEAD_BYTE = 2**40  # of the file of locks; those before it are the shards'
USE_BYTE = HEAD_BYTE + 1  # whoever has the cache open holds it, together with others
THREADS = 4  # that open shards: over a network each takes a while


class CannotKeep(UserError):
    """Moments that cannot be kept; the text says why."""


@dataclass(frozen=True)
class Contents:
    """What a cache is made of: equal contents, equal moments. Where anything lies is no part of it.

    Attributes:
        codec: Name of the codec.
        facts: What else the moments depend on: weights, settings.
        data: Fingerprint of the images and their conditions, in order.
        images: How many.
        mirrored: Whether they were mirrored left to right.
        shape: Of an image's moments.
        dtype: ``float32`` or ``float16``.
        cond: Shape and type of each condition by name.
    """

    codec: str
    facts: Mapping[str, Any]
    data: str
    images: int
    mirrored: bool
    shape: tuple[int, ...]
    dtype: str
    cond: Mapping[str, tuple[tuple[int, ...], str]]

    def key(self) -> str:
        """A sha256 of it all."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def image_bytes(self) -> int:
        """Bytes of one image's moments; its conditions are small beside them."""
        return math.prod(self.shape) * torch.zeros((), dtype=getattr(torch, self.dtype)).element_size()

    @property
    def row_bytes(self) -> int:
        """Bytes of all that is kept of one image."""
        return sum(one.nbytes for one in self.rows(1).values())

    def rows(self, count: int) -> dict[str, Tensor]:
        """What ``count`` images have in a shard, without memory: for shapes and types."""
        cond = {f"cond.{name}": one for name, one in self.cond.items()}
        forms = {"moments": (self.shape, self.dtype), SUMS: ((), "int64"), **cond}
        return {
            name: torch.empty((count, *shape), dtype=getattr(torch, dtype), device="meta")
            for name, (shape, dtype) in forms.items()
        }


class Store:
    """A cache on disk, as far as it is there.

    Args:
        contents: What it is made of.
        folder: Of the caches of latents.
        shard_mib: Size of the shards of a new cache.
        about: What a person wants to know of it besides.

    Attributes:
        key: The sha256 of its contents.
        folder: Where it lies.
        per_shard: Images in each shard but the last.
        shards: The tensors of each shard that is there, mapped; None for the others. `rows` checks what it gives.

    Raises:
        OSError: The cache cannot be made there.
    """

    def __init__(self, contents: Contents, folder: Path, shard_mib: float, about: Mapping[str, str]) -> None:
        self.contents, self.key = contents, contents.key()
        self.folder = folder / self.key[:32]
        self._locks = self._opened_locks()
        wanted = max(1, int(shard_mib * 2**20) // contents.image_bytes)
        self.per_shard = self._head(min(wanted, contents.images), about)
        self.shards: list[dict[str, Tensor] | None] = [None] * -(-contents.images // self.per_shard)

    def _opened_locks(self) -> IO[bytes] | None:
        """The file of locks, open as long as the store: to close it would give all claims back.

        None for a cache that can only be read, which may be whole.
        """
        try:
            while True:
                locks = _made(self.folder / LOCKS)
                _lock(locks, fcntl.LOCK_SH, USE_BYTE)
                if (self.folder / LOCKS).exists():
                    return locks
                locks.close()  # the cache was cleared between the two
        except OSError:
            if read_head(self.folder) is None:
                raise
            return None

    def _head(self, per_shard: int, about: Mapping[str, str]) -> int:
        """Images a shard: those of the cache that is there, or of a new one; of two that begin it at once the first."""
        self._lock(HEAD_BYTE, wait=True)
        try:
            head = read_head(self.folder)
            if head is None or head["key"] != self.key:
                head = {"key": self.key, "images_per_shard": per_shard, **asdict(self.contents), **about}
                write_json(self.folder / HEAD, head)
            return int(head["images_per_shard"])
        finally:
            self.release(HEAD_BYTE)

    def numbers(self, shard: int) -> range:
        """The images of a shard."""
        first = shard * self.per_shard
        return range(first, min(first + self.per_shard, self.contents.images))

    def path(self, shard: int) -> Path:
        """Its file."""
        return self.folder / f"{shard:06d}.moments"

    def missing(self) -> list[int]:
        """The shards that are not there."""
        return [number for number, shard in enumerate(self.shards) if shard is None]

    def count(self) -> int:
        """Images that are there."""
        return sum(len(self.numbers(number)) for number, shard in enumerate(self.shards) if shard is not None)

    def look(self) -> int:
        """Open the shards that have appeared since the last look; damaged ones are told and removed.

        Returns:
            How many images they have.

        Raises:
            UserError: One cannot be read just now.
            CannotKeep: A damaged one cannot be removed.
        """
        missing = self.missing()
        if not missing:
            return 0
        with _telling(self.folder):
            names = set(os.listdir(self.folder)) if self.folder.exists() else set()
        there = [shard for shard in missing if self.path(shard).name in names]
        with ThreadPoolExecutor(THREADS) as threads:
            return sum(threads.map(self.take, there))

    def take(self, shard: int) -> int:
        """Open a shard, if it is there: see `look`."""
        try:
            self.shards[shard] = self._opened(shard)
        except Damaged as error:
            self.shards[shard] = None
            log.warning("%s is damaged (%s) and is made anew", self.path(shard), error)
            self._remove(shard)
        return len(self.numbers(shard)) if self.shards[shard] is not None else 0

    def _opened(self, shard: int) -> dict[str, Tensor] | None:
        numbers, path = self.numbers(shard), self.path(shard)
        with _telling(path):
            return open_shard(path, self.contents.rows(len(numbers)), self.key, numbers.start)

    def _remove(self, shard: int) -> None:
        """Remove a damaged shard, since what is there counts as made; not one that another has put in its place."""
        if self._locks is None or not self._lock(shard):
            return  # it can only be read: that is told when it is to be written; or another is at it
        try:
            self._opened(shard)
        except Damaged:
            try:
                self.path(shard).unlink(missing_ok=True)
            except OSError as error:
                raise CannotKeep(f"{self.path(shard)} is damaged and cannot be removed ({error.strerror})") from error
        finally:
            self.release(shard)

    def rows(self, shard: int, places: Iterable[int]) -> dict[str, Tensor]:
        """The tensors of a shard, of which the images at some places have been checked.

        Raises:
            Damaged: One of them is not as it was written, in the file as it lies there now.
            UserError: The shard cannot be read just now.
        """
        places = list(places)
        found = self.shards[shard]
        if found is None or not all(fits(found, place) for place in places):
            self.shards[shard] = found = self._opened(shard)  # another may have made it anew
            if found is None or not all(fits(found, place) for place in places):
                raise Damaged("not there" if found is None else "its checksum does not fit")
        return found

    def write(self, shard: int, moments: Tensor, cond: Mapping[str, Tensor]) -> bool:
        """Add a shard; False, and a warning, where that is not possible: it is then in memory alone."""
        tensors = summed({"moments": moments, **{f"cond.{name}": value for name, value in cond.items()}})
        written = write_shard(self.path(shard), tensors, self.key, self.numbers(shard).start)
        self.shards[shard] = tensors
        if written:
            self.take(shard)
        return written

    def claim(self, shard: int) -> bool:
        """Hold a shard to make it, until `release` or the end of the process; not where another makes it or has."""
        if self._locks is None:
            return True  # a damaged one, which cannot be written: that is told when it is tried
        if not self._lock(shard):
            return False
        with _telling(self.path(shard)):
            there = self.path(shard).exists()
        if there:
            self.release(shard)
        return not there

    def release(self, shard: int) -> None:
        """Give a claim back."""
        if self._locks is not None:
            with contextlib.suppress(OSError):  # no locks there: see below
                fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, shard)

    def _lock(self, byte: int, wait: bool = False) -> bool:
        """Lock a byte of the file of locks, which need not be there; whether that could be done."""
        return self._locks is None or _lock(self._locks, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), byte)


def _made(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return open(path, "a+b")


def _lock(locks: IO[bytes], how: int, byte: int) -> bool:
    """Lock a byte of a file; whether that could be done.

    Where the file system has no locks, everybody may: two then make the same shard, and no harm is done.
    """
    try:
        fcntl.lockf(locks, how, 1, byte)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True


@contextlib.contextmanager
def _telling(path: Path) -> Iterator[None]:
    """What cannot be read just now is no damage: hours of work lie there, and nobody is to make them anew for it.

    Raises:
        UserError: It cannot be read.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}, errno {error.errno}), and is left as it is; when it can be read "
            "again, give the same command, or write latents.cache: false to go on without what is kept"
        ) from error


def read_head(folder: Path) -> dict[str, Any] | None:
    """What a cache is made of; None where its head is not there, or damaged."""
    try:
        head = read_json(folder / HEAD)
        return head if head is not None and head["key"] and int(head["images_per_shard"]) > 0 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
