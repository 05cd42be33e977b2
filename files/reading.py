"""Many pictures: read, held to what a set makes of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import PIL
import torch
from torch import Tensor

from .collection import Entries, Entry
from .listing import BadFile
from .pictures import Background, Decoded, Mode, channels_first, decode, middle

RULES = 1  # goes up whenever the same file gives other pixels, or other things are known of it


class Readable(Protocol):
    """What pictures are read from: a `Collection`, or what does as it does."""

    @property
    def entries(self) -> Entries:
        """The pictures."""

    def read(self, entry: Entry) -> bytes:
        """The bytes of one; `BadFile` when it cannot be read."""

    def source(self, entry: Entry) -> str:
        """What a message calls it."""


@dataclass(frozen=True)
class Treatment:
    """What becomes of each picture of a set: its middle square, of one size and as many channels.

    Attributes:
        size: Side in pixels.
        channels: 3 for RGB, 1 for grey.
        background: Colour behind transparent parts.
        box: (left, top, right, bottom) of the part that counts, in pixels of the file; None for the whole.
    """

    size: int
    channels: int = 3
    background: Background = "white"
    box: tuple[int, int, int, int] | None = None

    def __call__(self, content: bytes, source: str) -> Decoded:
        """The square picture of a file's bytes, in mode ``RGB`` or ``L``; `BadFile` when it holds none."""
        mode: Mode = "L" if self.channels == 1 else "RGB"
        found = decode(content, source, mode, self.background)
        picture = found.picture
        if self.box is not None:
            _, _, right, bottom = self.box
            if picture.width < right or picture.height < bottom:
                raise BadFile(
                    source,
                    f"is {picture.width} x {picture.height} pixels (width x height), too small for the part "
                    f"{self.box} of it; fetch it anew, or take it away",
                )
            picture = picture.crop(self.box)
        return Decoded(middle(picture, self.size), found.mode, found.frames, found.size)

    def room(self, count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Room for so many of them, as numpy has pictures."""
        return np.empty((count, self.size, self.size, *((3,) if self.channels == 3 else ())), np.uint8)

    def decides(self) -> str:
        """What decides whether a file can be used."""
        return f"rules {RULES}, pillow {PIL.__version__}, box {self.box}"

    def known_by(self) -> str:
        """What other pixels are known by, but for their shape: a run may go on with another Pillow."""
        return f"rules {RULES}, box {self.box} on {self.background}"

    def makes(self) -> str:
        """What decides the pixels."""
        return f"{self.decides()}, {self.size}x{self.size}x{self.channels} on {self.background}"


class Seen(NamedTuple):
    """What is known of a file once it was read.

    Attributes:
        digest: sha256 of its bytes; empty when they could not be read.
        decoded: Whether it was made a picture of the set, or found to be none.
        reason: Why it cannot be used, to be read after its name; empty when it can.
        several: Whether it has several frames, of which the first is taken.
        shorter: Its shorter side in pixels; 0 where that is not known.
        longer: Its longer side.
    """

    digest: bytes
    decoded: bool
    reason: str = ""
    several: bool = False
    shorter: int = 0
    longer: int = 0


def look(
    place: Readable, entry: Entry, treatment: Treatment | None, had: Callable[[bytes], bool] | None = None
) -> tuple[Seen, Decoded | None]:
    """Read a picture and, for a treatment, decode it.

    Args:
        place: Where it is.
        entry: Which.
        treatment: What to make of it; None only reads it.
        had: Whether the pixels of a digest are there already, so that nothing is to be made.

    Returns:
        What is known of it now, and what was made of it.
    """
    try:
        content = place.read(entry)
    except BadFile as error:
        return Seen(b"", False, error.reason), None
    digest = hashlib.sha256(content).digest()
    if treatment is None or (had is not None and had(digest)):
        return Seen(digest, treatment is not None), None
    try:
        made = treatment(content, "")
    except BadFile as error:
        return Seen(digest, True, error.reason), None
    return Seen(digest, True, "", made.frames > 1, min(made.size), max(made.size)), made


def decoded_rows(place: Readable, numbers: Sequence[int], treatment: Treatment) -> Tensor:
    """Pictures of some numbers, uint8 (B, C, size, size), by this thread alone.

    Raises:
        BadFile: One cannot be read, or used.
    """
    images = treatment.room(len(numbers))
    for row, i in enumerate(numbers):
        entry = place.entries[i]
        content = place.read(entry)
        try:
            picture = treatment(content, "").picture  # its name takes as long to write as a small one to decode
        except BadFile as error:
            raise BadFile(place.source(entry), error.reason) from error
        images[row] = np.asarray(picture)
    return channels_first(torch.from_numpy(images))
