"""Picture files as they are: nothing is scaled, cut or turned grey."""

from __future__ import annotations

import hashlib
import logging
import math
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...core import Cond, Dataset, DataSpec, Example, LeftOut
from ...files.collection import Collection, open_collection
from ...files.listing import BadFile
from ...files.pictures import decode
from ...files.threads import on_all_cores
from ...files.words import a_line_each, counted, few, printable
from ...registry import UserError

OnError = Literal["raise", "skip"]
Plane: TypeAlias = npt.NDArray[np.uint8]
GREY = frozenset(("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"))  # Pillow's modes without colour
MEMORY_BYTES = 2**31  # of pixels, up to which they are kept
log = logging.getLogger("dmf")


class Pictures(Dataset):
    """The pictures of a folder or a zip, all of one size, in natural order of their names.

    Each is decoded once at the start, on all cores, so that what cannot be used is known before anything long begins;
    up to 2 GiB of pixels stay in memory, more are decoded again when they are asked for. The set is grey where each
    file is, else in colour.

    Args:
        root: The folder or the zip.
        labels: See `open_collection`.
        on_error: ``raise``: files that cannot be used are an error that names them. ``skip``: they are left out.
        memory_bytes: Of pixels that are kept in memory.

    Raises:
        UserError: Files that cannot be used, or two of different sizes, named with both.
    """

    def __init__(
        self, root: Path, labels: str = "auto", on_error: OnError = "raise", memory_bytes: int = MEMORY_BYTES
    ) -> None:
        collection = open_collection(root, labels)
        pixels = _Pixels(collection, memory_bytes)
        numbers = range(len(collection.entries))
        seen = list(on_all_cores(pixels.look, numbers, "read pictures"))
        good = [i for i in numbers if not seen[i].reason]
        self.left_out = _left_out(collection, seen, on_error)
        _check_sizes(collection, [(i, seen[i].size) for i in good])
        labelled = collection.entries.labels
        self._collection = collection.chosen(
            good, None if labelled is None else [labelled[i] for i in good], collection.classes
        )
        grey = [i for i in good if seen[i].grey]
        channels = 1 if len(grey) == len(good) else 3
        self.spec = DataSpec((channels, *reversed(seen[good[0]].size)), collection.classes)
        self._images = pixels.of(good, grey)
        self._digests = [seen[i].digest for i in good]

    def __len__(self) -> int:
        return len(self._collection.entries)

    def __getitem__(self, i: int) -> Example:
        if not -len(self) <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        images, cond = self.rows([i])
        return Example(images[0], {name: value[0] for name, value in cond.items()})

    def rows(self, numbers: Sequence[int]) -> tuple[Tensor, Cond]:
        """From memory, or decoded by this thread."""
        where = torch.as_tensor(numbers, dtype=torch.int64)
        images = torch.stack([self._decoded(i) for i in numbers]) if self._images is None else self._images[where]
        return images, {name: value[where] for name, value in self.conditions().items()}

    def tensors(self) -> tuple[Tensor, Cond] | None:
        """All of it, where it is in memory."""
        return None if self._images is None else (self._images, self.conditions())

    def conditions(self) -> dict[str, Tensor]:
        """The labels."""
        labels = self._collection.entries.labels
        return {} if labels is None else {"class": torch.tensor(labels, dtype=torch.int64)}

    def name_of(self, i: int) -> str:
        """The name of its file."""
        return printable(self._collection.entries.names[i])

    def _decoded(self, i: int) -> Tensor:
        place, entry = self._collection, self._collection.entries[i]
        mode: Literal["RGB", "L"] = "L" if self.spec.shape[0] == 1 else "RGB"
        picture = np.array(decode(place.read(entry), place.source(entry), mode).picture)
        return torch.from_numpy(picture).view(*self.spec.shape[1:], -1).permute(2, 0, 1)

    def _digest(self) -> str:
        return pixels_digest(self.spec, self._digests, self._collection.entries.labels)


def pixels_digest(spec: DataSpec, digests: Iterable[bytes], labels: Sequence[int] | None) -> str:
    """The fingerprint of images by the digests of their pixels, in order, whatever they lie in."""
    digest = hashlib.sha256(repr((spec.shape, None if labels is None else list(labels))).encode())
    for one in digests:
        digest.update(one)
    return digest.hexdigest()


class _Seen(NamedTuple):
    """What is known of a file once it was decoded: why it cannot be used, or its size, kind and digest."""

    reason: str = ""
    size: tuple[int, int] = (0, 0)
    grey: bool = False
    digest: bytes = b""


class _Pixels:
    """Room for what is decoded, as long as it is not too much: one plane, and two more once a picture has colour."""

    def __init__(self, collection: Collection, memory_bytes: int) -> None:
        self.collection, self.size, self.memory_bytes = collection, _first_size(collection), memory_bytes
        self._lock = threading.Lock()
        self._planes: list[Plane] | None = []

    def look(self, i: int) -> _Seen:
        """Decode picture i into its row."""
        place, entry = self.collection, self.collection.entries[i]
        try:
            found = decode(place.read(entry), "", "RGB")
        except BadFile as error:
            return _Seen(error.reason)
        pixels, grey = np.asarray(found.picture), found.mode in GREY
        own = pixels[..., :1] if grey else pixels
        if found.size == self.size:
            for channel, plane in enumerate(self._room(own.shape[2])):
                plane[i] = own[..., channel]
        return _Seen("", found.size, grey, hashlib.sha256(own.tobytes()).digest())

    def of(self, good: Sequence[int], grey: Sequence[int]) -> Tensor | None:
        """The pictures that can be used, ``grey`` of them without colour, uint8 (n, C, H, W); None: too much."""
        if self._planes is None:
            return None
        for plane in self._planes[1:]:
            plane[grey] = self._planes[0][grey]
        whole = len(good) == len(self.collection.entries)
        return torch.stack([torch.from_numpy(plane if whole else plane[good]) for plane in self._planes], dim=1)

    def _room(self, channels: int) -> list[Plane]:
        """So many planes, (N, H, W) each; none where all of them are too much."""
        shape = (len(self.collection.entries), *reversed(self.size))
        with self._lock:
            missing = 0 if self._planes is None else channels - len(self._planes)
            if self._planes is None or channels * math.prod(shape) > self.memory_bytes:
                self._planes = None
                return []
            self._planes += [np.empty(shape, np.uint8) for _ in range(missing)]
            return self._planes[:channels]


def _first_size(collection: Collection) -> tuple[int, int]:
    """Width and height of the first that can be decoded; nothing where none can."""
    for entry in collection.entries:
        try:
            return decode(collection.read(entry), "", "RGB").size
        except BadFile:
            continue
    return 0, 0


def _left_out(collection: Collection, seen: Sequence[_Seen], on_error: OnError) -> tuple[LeftOut, ...]:
    """What is no image of the set.

    Raises:
        UserError: There is something, and ``on_error`` is ``raise``; or nothing else is left.
    """
    names = collection.entries.names
    bad = [LeftOut(printable(names[i]), one.reason) for i, one in enumerate(seen) if one.reason]
    found = (*collection.trouble, *bad)
    if found and (on_error == "raise" or len(bad) == len(seen)):
        lines = [f"{collection.place.source(one.name)} {one.reason}" for one in found]
        advice = "\nmend them, or leave them out with --on-error skip" if len(bad) < len(seen) else ""
        total = len(seen) + len(collection.trouble)
        raise UserError(f"{len(found)} of {counted(total, 'picture')} cannot be used:{a_line_each(lines)}{advice}")
    if found:
        told = few([one.name for one in found])
        log.warning("left out %s that cannot be used: %s", counted(len(found), "picture"), told)
    return found


def _check_sizes(collection: Collection, sizes: Sequence[tuple[int, tuple[int, int]]]) -> None:
    first, size = sizes[0]
    for i, other in sizes:
        if other != size:
            named = [
                f"{collection.source(collection.entries[k])} is {w} x {h}" for k, (w, h) in ((first, size), (i, other))
            ]
            raise UserError(
                f"{' and '.join(named)} pixels (width x height): images are scored as they are, so all of a set have "
                "one size; make them so with dmf data prepare"
            )
