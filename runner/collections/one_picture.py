"""One picture of a source, made into what the set holds of it."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from ...files.listing import BadFile
from ...files.pictures import Background, decode, middle
from .manifest import Record
from .sources import Item

LEVEL = 3  # of packing: a photograph is 2 % larger than at 6, and packed in two thirds of the time
UNUSABLE, SMALL, OTHER = "cannot be used", "too small", "no picture by its ending"


@dataclass(frozen=True)
class Options:
    """What is made of pictures.

    Attributes:
        size: Side in pixels.
        channels: 3 for colour, 1 for grey.
        labels: How sources are labelled.
        background: What transparent parts are laid on.
        min_side: A picture whose shorter side has fewer pixels is left out.
    """

    size: int
    channels: Literal[3, 1] = 3
    labels: str = "auto"
    background: Background = "white"
    min_side: int = 1


def make(item: Item, options: Options) -> tuple[Record, bytes]:
    """A picture decoded, scaled, cut and packed as PNG.

    Args:
        item: The picture.
        options: What is made of it.

    Returns:
        What is known of it, and the PNG, which has no place yet; of a picture that is left out, why, and no PNG.
    """
    known: dict[str, Any] = {"source": item.name, "label": item.label}

    def left_out(kind: str, reason: str) -> tuple[Record, bytes]:
        return Record(**known, left_out=kind, reason=reason), b""

    if item.entry is None:
        return left_out(OTHER if item.other else UNUSABLE, item.trouble)
    try:
        content = item.collection.read(item.entry)
        known["sha256"] = hashlib.sha256(content).hexdigest()
        found = decode(content, item.name, "RGB" if options.channels == 3 else "L", background=options.background)
    except BadFile as error:
        return left_out(UNUSABLE, error.reason)
    picture = found.picture
    known |= {"width": picture.width, "height": picture.height, "mode": found.mode, "pixels": digest(picture)}
    known |= {"frames": found.frames} if found.frames > 1 else {}
    if min(picture.size) < options.min_side:
        return left_out(SMALL, f"has {picture.width} x {picture.height} pixels; --min-side is {options.min_side}")
    packed = _png(middle(picture, options.size))
    return Record(**known, file_sha256=hashlib.sha256(packed).hexdigest()), packed


def _png(picture: Image.Image) -> bytes:
    """A PNG of the pixels and nothing else: no colour profile, which is not applied in training either."""
    picture.info.clear()
    packed = io.BytesIO()
    picture.save(packed, "PNG", compress_level=LEVEL)
    return packed.getvalue()


def digest(picture: Image.Image) -> str:
    """Of all pixels: the same for a PNG and a BMP of one picture."""
    found = hashlib.blake2b(repr((picture.mode, picture.size)).encode(), digest_size=16)
    found.update(picture.tobytes())
    return found.hexdigest()
