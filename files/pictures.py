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
import logging
import os
import struct
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageChops, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from ..registry import UserError
from .quiet import NO_NOISE, no_warnings

Mode: TypeAlias = Literal["RGB", "L"]
Background: TypeAlias = Literal["white", "black", "grey"]
LEVEL = {"white": 255, "black": 0, "grey": 128}
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000")  # none runs a program
DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")  # more than 8 bits a channel
PNG = b"\x89PNG\r\n\x1a\n"
MOST_NAMED = 10  # bad files in one message
PLAIN_LINE_EVERY_S = 10.0
log = logging.getLogger("dmf")
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
    """

    picture: Image.Image
    mode: str
    frames: int


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
        UserError: It is empty, no picture, a damaged one, one of more pixels than Pillow's limit, or of values whose
            range is not known. The text names the source and says what to do.
    """
    if not content:
        raise UserError(f"{source} is empty; copy it anew, or take it away")
    no_warnings("PIL")
    try:
        if content.startswith(PNG):
            _check_sums(content)
        with Image.open(io.BytesIO(content), formats=_formats()) as opened:
            _check_size(opened, source)
            with NO_NOISE if opened.format == "TIFF" else contextlib.nullcontext():
                opened.load()
            lay = opened.mode
            return Decoded(_converted(_upright(opened), source, mode, background), lay, _frames(opened))
    except UserError:
        raise
    except UnidentifiedImageError:
        said = f"it begins with {content[:12]!r}, as no format does that is known here"
    except Image.DecompressionBombError:
        raise UserError(_too_many(source, "more than twice as many")) from None
    except Exception as error:  # whatever a decoder says of bytes that it cannot make out; they have no common base
        said = f"{type(error).__name__}: {error}"
    raise UserError(f"{source} cannot be read as a picture ({said}); write it anew as PNG or JPEG, or take it away")


def square(picture: Image.Image, size: int) -> Tensor:
    """The middle of a picture, uint8 (C, size, size): the shorter side is scaled to ``size``, the longer one cut.

    Args:
        picture: In mode ``RGB`` or ``L``.
        size: Side in pixels. A smaller picture is enlarged; one of this size stays as it is.
    """
    if picture.size != (size, size):
        side = min(picture.size)
        left, top = (picture.width - side) / 2, (picture.height - side) / 2
        box = (left, top, left + side, top + side)  # in one go: the longer side is never made whole
        picture = picture.resize((size, size), Image.Resampling.BICUBIC, box=box)
    pixels = torch.from_numpy(np.array(picture))
    return pixels[None] if picture.mode == "L" else pixels.permute(2, 0, 1).contiguous()


@lru_cache(maxsize=1)
def _formats() -> list[str]:
    """Those of ours that this Pillow was built with."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _check_size(opened: Image.Image, source: str) -> None:
    """Refuse what Pillow only warns of."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and opened.width * opened.height > limit:
        raise UserError(_too_many(source, f"{opened.width} x {opened.height}"))


def _too_many(source: str, pixels: str) -> str:
    return (
        f"{source} has too many pixels, {pixels}; {Image.MAX_IMAGE_PIXELS:,} in all are the most that are decoded, "
        "because a small file that swells so may be an attack (a decompression bomb); scale it down, or take it away"
    )


def _check_sums(content: bytes) -> None:
    """Hold the parts of a PNG that make its pixels to their checksums, which Pillow passes over in most of them.

    Raises:
        ValueError: One differs, or ends before its time.
    """
    for kind, start, length in _png_parts(content):
        if kind[0] & 32 and kind != b"tRNS":  # a small first letter: not needed to show the picture
            continue
        whole = content[start + length : start + length + 4]
        if zlib.crc32(memoryview(content)[start - 4 : start + length]) != int.from_bytes(whole, "big"):
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
    return picture.convert(mode)


def _eight_bit(picture: Image.Image, source: str) -> Image.Image:
    """0 ... 65535, or what the bits of a TIFF allow, as 0 ... 255, to the nearest."""
    values = np.asarray(picture)
    tags = getattr(picture, "tag_v2", {})
    most = 2 ** int(tags.get(BITS, (16,))[0]) - 1 if picture.mode != "I" else 65535
    if picture.mode == "F" or values.min() < 0 or values.max() > most:
        raise UserError(
            f"{source} has pixels of the kind {picture.mode}, whose range is not known; write it anew as 8-bit RGB"
        )
    grey = Image.fromarray(((values.astype(np.uint32) * 255 + most // 2) // most).astype(np.uint8))
    clear = picture.info.get("transparency")
    if clear is not None:
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


# until reading.py is there
def read_picture(file: Path, size: int, channels: int) -> Tensor:
    """One picture as uint8 (channels, size, size).

    The first frame of an animation; transparent parts are laid on white; 16 bits become 8; of a coloured picture one
    channel is its luma (ITU-R 601-2).

    Args:
        file: In any format that Pillow reads.
        size: Side in pixels. A smaller picture is enlarged.
        channels: 3 for RGB, 1 for grey.

    Raises:
        UserError: The file is not there, is no picture or a damaged one.
    """
    if not file.exists():
        raise UserError(f"{file}: no such file; put it there, or take it off the list")
    return square(decode(file.read_bytes(), str(file), "L" if channels == 1 else "RGB").picture, size)


def read_pictures(files: Sequence[Path], size: int, channels: int) -> Tensor:
    """Many pictures, uint8 (N, channels, size, size), on all cores and with a progress bar.

    Raises:
        UserError: Some cannot be read; all of them are looked at first, and those are named together.
    """
    images = torch.empty(len(files), channels, size, size, dtype=torch.uint8)
    bad: list[str] = []

    def read(i: int) -> None:
        images[i] = read_picture(files[i], size, channels)

    pool = ThreadPoolExecutor(_cores())  # threads: Pillow decodes and scales without the interpreter's lock
    try:
        work = [pool.submit(read, i) for i in range(len(files))]
        for one in _watched(work):
            error = one.exception()
            if isinstance(error, UserError):
                bad.append(str(error))
            elif error is not None:
                raise error
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C nobody waits for the rest
    if bad:
        raise UserError(f"{len(bad)} of {len(files)} pictures cannot be used:{a_line_each(bad)}")
    return images


def a_line_each(bad: Sequence[str]) -> str:
    """The first of them, and how many more there are; each line after a break."""
    more = [f"and {len(bad) - MOST_NAMED} more"] if len(bad) > MOST_NAMED else []
    return "".join(f"\n  {line}" for line in [*bad[:MOST_NAMED], *more])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _watched(work: Sequence[Future[None]]) -> Iterator[Future[None]]:
    """Each piece of work as it ends, in order; a bar on a terminal, a plain line now and then elsewhere."""
    tty, last_line = sys.stderr.isatty(), time.monotonic()
    first = os.environ.get("RANK", "0") == "0"  # of several processes one shows it
    for done, one in enumerate(tqdm(work, "read pictures", unit="", leave=False, disable=not (tty and first)), 1):
        one.exception()
        yield one
        if not tty and time.monotonic() - last_line > PLAIN_LINE_EVERY_S:
            last_line = time.monotonic()
            log.info("read pictures %d/%d", done, len(work))
