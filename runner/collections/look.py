"""What a picture is like: of a collection's files, and of a data set's images."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image
from torch import Tensor

from ...core import Dataset
from ...files.listing import BadFile
from ...files.pictures import decode, square
from .one_picture import digest
from .sources import Item

GREY = frozenset(("1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N", "I", "F"))


@dataclass(frozen=True)
class Look:
    """What one picture is like.

    Attributes:
        name: What messages call it.
        label: The name of its class.
        trouble: Why it cannot be used; then nothing more is known.
        format: Pillow's name of the file's; empty for an image of a data set.
        mode: Pillow's, as the file has it.
        frames: How many the file has, of which the first is looked at; 2 may stand for several.
        size: Width and height in pixels.
        pixels: Digest of all pixels.
        means: Of each channel, 0 to 255.
        squares: Mean square of each channel.
    """

    name: str
    label: str | None = None
    trouble: str = ""
    format: str = ""
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    pixels: str = ""
    means: tuple[float, ...] = ()
    squares: tuple[float, ...] = ()
    frames: int = 1

    @property
    def deviation(self) -> float:
        """Of its pixels from their mean, in the channel where it is most."""
        return float(max(max(s - m * m, 0.0) for m, s in zip(self.means, self.squares, strict=True)) ** 0.5)


def look_at_file(item: Item, size: int) -> Look:
    """A file: decoded whole, then scaled and cut to ``size`` for its means."""
    if item.entry is None:
        return Look(item.below, trouble=item.trouble)
    try:
        content = item.collection.read(item.entry)
        found = decode(content, item.name, "RGB")
    except BadFile as error:
        return Look(item.below, item.label, trouble=error.reason)
    ((means, squares),) = _moments(square(found.picture, size)[None])
    with Image.open(io.BytesIO(content)) as opened:
        kind = opened.format or ""
    picture = found.picture
    known = kind, found.mode, picture.size, digest(picture), means, squares, found.frames
    return Look(item.below, item.label, "", *known)


def look_at_images(dataset: Dataset, numbers: Sequence[int]) -> list[Look]:
    """Images of a data set, as they are."""
    images, cond = dataset.rows(numbers)
    classes, labels = dataset.spec.classes, cond["class"].tolist() if "class" in cond else [None] * len(numbers)
    rows = zip(numbers, images.contiguous(), labels, _moments(images), strict=True)
    return [
        Look(
            dataset.name_of(i),
            None if label is None else classes[label],
            size=(image.shape[-1], image.shape[-2]),
            pixels=hashlib.blake2b(image.numpy().tobytes(), digest_size=16).hexdigest(),
            means=means,
            squares=squares,
        )
        for i, image, label, (means, squares) in rows
    ]


def _moments(images: Tensor) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Mean and mean square of each channel of each image, uint8 (B, C, *size)."""
    values = images.cpu().numpy().reshape(*images.shape[:2], -1)
    means = values.mean(-1, dtype=np.float64)
    squares = _squares()[values].mean(-1, dtype=np.float64)
    return [(tuple(m), tuple(s)) for m, s in zip(means.tolist(), squares.tolist(), strict=True)]


@lru_cache(maxsize=1)
def _squares() -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    return (np.arange(256, dtype=np.uint32) ** 2).astype(np.uint16)
