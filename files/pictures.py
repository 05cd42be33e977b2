"""One picture: from the bytes of a file to upright, opaque pixels of 8 bits, and from those to a square.

Pillow decodes. Colour profiles are not applied: the numbers of the file are the pixels. CMYK becomes RGB by
(255 - C)(255 - K) / 255; a JPEG without Adobe's mark holds its CMYK upside down, and is turned over. 16 bits become 8:
of grey to the nearest value, of colour, where Pillow keeps the high byte, to the one below.

The shorter side is scaled to the size with Pillow's antialiased bicubic filter and the middle is cut out: the scaling
is that of clean-fid (Parmar, Zhang & Zhu 2022, arXiv 2104.11222, section 3), so what is learnt has no aliasing.
"""

from __future__ import annotations

import contextlib
import io
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageChops, UnidentifiedImageError
from torch import Tensor

from .listing import ENDINGS, BadFile
from .quiet import NO_NOISE, no_warnings

Mode: TypeAlias = Literal["RGB", "L"]
Background: TypeAlias = Literal["white", "black", "grey"]
LEVEL = {"white": 255, "black": 0, "grey": 128}
NOT_HERE = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF"}
DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")  # more than 8 bits a channel
PNG = b"\x89PNG\r\n\x1a\n"
HEADS = (PNG[:4], b"\xff\xd8", b"GIF8", b"RIFF", b"BM", b"II*", b"MM\0*")
ORIENTATION, BITS = 0x0112, 0x0102  # tags of EXIF and TIFF
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Decoded:
    """A whole picture.

    Attributes:
        picture: Upright and opaque, in the mode that was asked for.
        mode: Pillow's name of the mode in which it lay there.
        frames: How many the file has; the first one is taken. 2 stands for several where a later one is damaged.
        size: Width and height in pixels of the whole, upright.
    """

    picture: Image.Image
    mode: str
    frames: int
    size: tuple[int, int]


def decode(content: bytes, source: str, mode: Mode, background: Background = "white") -> Decoded:
    """The picture that a file holds.

    Turned as EXIF says, where it can be read; the first frame of an animation; transparent parts laid on the
    background; 16 bits made 8; of a coloured picture one channel is its luma (ITU-R 601-2).

    Args:
        content: Of the file, whole.
        source: What a message calls it.
        mode: ``RGB`` or ``L``.
        background: Colour behind transparent parts; grey is (128, 128, 128).

    Raises:
        BadFile: It is empty, no picture, a damaged one, one of more pixels than Pillow's limit, or of values whose
            range is not known. The text names the source and says what to do.
    """
    if not content:
        raise BadFile(source, "is empty; copy it anew, or take it away")
    no_warnings("PIL")
    try:
        if content.startswith(PNG):
            _check_sums(content)
        with Image.open(io.BytesIO(content), formats=_formats()) as opened:
            _check_size(opened, source)
            with NO_NOISE if opened.format == "TIFF" else contextlib.nullcontext():
                opened.load()
            lay = opened.mode
            picture = _converted(_upright(opened), source, mode, background)
            return Decoded(picture, lay, _frames(opened), picture.size)
    except BadFile:
        raise
    except UnidentifiedImageError:
        said = f"it begins with {content[:12]!r}, as no format does that is known here"
        said = "its head is damaged" if content.startswith(HEADS) else said
        if content[4:8] == b"ftyp" and content[8:12] in NOT_HERE:
            said = f"it is {NOT_HERE[content[8:12]]}, which is not read here"
    except Image.DecompressionBombError as error:  # it has their number, and no more
        pixels = re.search(r"[0-9]+", str(error))
        raise BadFile(source, _too_many(f"{int(pixels[0]):,}" if pixels else str(error))) from None
    except Exception as error:  # whatever a decoder says of bytes that it cannot make out; they have no common base
        said = f"{type(error).__name__}: {error}"
    raise BadFile(source, f"cannot be read as a picture ({said}); write it anew as PNG or JPEG, or take it away")


def square(picture: Image.Image, size: int) -> Tensor:
    """The middle of a picture, uint8 (C, size, size): the shorter side is scaled to ``size``, the longer one cut.

    Args:
        picture: In mode ``RGB`` or ``L``.
        size: Side in pixels. A smaller picture is enlarged; one of this size stays as it is.
    """
    return channels_first(torch.from_numpy(np.array(middle(picture, size)))[None])[0]


def middle(picture: Image.Image, size: int) -> Image.Image:
    """As `square`, as a picture still."""
    if picture.size == (size, size):
        return picture
    side = min(picture.size)
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    box = (left, top, left + side, top + side)  # in one go: the longer side is never made whole
    return picture.resize((size, size), Image.Resampling.BICUBIC, box=box)


def channels_first(images: Tensor) -> Tensor:
    """(B, H, W) or (B, H, W, C), as numpy has pictures, as (B, C, H, W)."""
    return images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()


@lru_cache(maxsize=1)
def _formats() -> list[str]:
    """Those of ours that this Pillow was built with; none of them runs a program."""
    Image.init()
    return [name for name in ENDINGS if name in Image.OPEN]


def _check_size(opened: Image.Image, source: str) -> None:
    """Refuse what Pillow only warns of."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and opened.width * opened.height > limit:
        raise BadFile(source, _too_many(f"{opened.width} x {opened.height}"))


def _too_many(pixels: str) -> str:
    return (
        f"has too many pixels, {pixels}; {Image.MAX_IMAGE_PIXELS:,} in all are the most that are decoded, "
        "because a small file that swells so may be an attack (a decompression bomb); scale it down, or take it away"
    )


def _check_sums(content: bytes) -> None:
    """Hold the parts of a PNG to their checksums, which Pillow passes over in those that hold the pixels.

    Raises:
        ValueError: One differs, or the end is missing.
    """
    for kind, start, length in _png_parts(content):
        told = content[start + length : start + length + 4]
        if zlib.crc32(memoryview(content)[start - 4 : start + length]) != int.from_bytes(told, "big"):
            raise ValueError(f"damaged: the checksum of its part {kind.decode('latin-1')} does not fit")


def _png_parts(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and length of each part's data (PNG, third edition, section 5.3)."""
    at = len(PNG)
    while at + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        yield kind, at + 8, length
        if kind == b"IEND":
            return
        at += length + 12
    raise ValueError("cut short: its end is missing")


def _upright(opened: Image.Image) -> Image.Image:
    """As EXIF says; as it lies where that makes no sense, as every viewer shows it."""
    try:
        turn = TURNS.get(opened.getexif().get(ORIENTATION, 1))
    except Exception:  # nothing but the turn is asked of it: a picture is not lost for a damaged note
        turn = None
    return opened if turn is None else opened.transpose(turn)


def _frames(opened: Image.Image) -> int:
    try:
        return int(getattr(opened, "n_frames", 1))
    except Exception:  # in a frame that is not taken
        return 2


def _converted(picture: Image.Image, source: str, mode: Mode, background: Background) -> Image.Image:
    """The picture with 8 bits a channel, nothing transparent, in RGB or grey."""
    if picture.mode in DEEP:
        picture = _eight_bit(picture, source)
    if picture.mode == "CMYK" and picture.format == "JPEG" and "adobe" not in picture.info:
        picture = ImageChops.invert(picture)
    if picture.has_transparency_data:
        level = LEVEL[background]
        behind = Image.new("RGBA", picture.size, (level, level, level, 255))
        picture = Image.alpha_composite(behind, picture.convert("RGBA"))
    return picture.convert(mode)  # a copy even in its own mode: the file is closed now


def _eight_bit(picture: Image.Image, source: str) -> Image.Image:
    """0 ... 65535, or what the bits of a TIFF allow, as 0 ... 255, to the nearest."""
    values = np.asarray(picture)
    tags = getattr(picture, "tag_v2", {})
    most = 2 ** int(tags.get(BITS, (16,))[0]) - 1 if picture.mode != "I" else 65535
    if picture.mode == "F" or values.min() < 0 or values.max() > most:
        raise BadFile(
            source, f"has pixels of the kind {picture.mode}, whose range is not known; write it anew as 8-bit RGB"
        )
    grey = Image.fromarray(((values.astype(np.uint32) * 255 + most // 2) // most).astype(np.uint8))
    clear = picture.info.get("transparency")
    if clear is not None:
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey
