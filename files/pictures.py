"""Picture files as square uint8 images: decoded, turned upright, in the wanted channels, scaled and cut.

The shorter side is scaled to the size with Pillow's antialiased bicubic filter and the middle is cut out: the scaling
is that of clean-fid (Parmar, Zhang & Zhu 2022, arXiv 2104.11222, section 3), so what is learnt has no aliasing.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from ..registry import UserError

WHITE = (255, 255, 255, 255)
DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")  # more than 8 bits a channel
MOST_NAMED = 10  # bad files in one message
PLAIN_LINE_EVERY_S = 10.0
log = logging.getLogger("dmf")


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
    picture = _converted(_decoded(file), file, "L" if channels == 1 else "RGB")
    side = min(picture.size)
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    box = (left, top, left + side, top + side)  # in one go: the longer side is never made whole
    square = np.array(picture.resize((size, size), Image.Resampling.BICUBIC, box=box))
    return torch.from_numpy(square).reshape(size, size, channels).permute(2, 0, 1).contiguous()


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


def _decoded(file: Path) -> Image.Image:
    """The picture, the right way up."""
    try:
        with Image.open(file) as opened:
            picture: Image.Image = ImageOps.exif_transpose(opened)
            picture.load()
            return picture
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; put it there, or take it off the list") from None
    except Exception as error:  # whatever a decoder says of bytes that it cannot make out; they have no common base
        if file.is_file() and file.stat().st_size == 0:
            raise UserError(f"{file} is empty; copy it anew, or take it away") from None
        raise UserError(
            f"{file} cannot be read as a picture ({type(error).__name__}: {error}); write it anew as PNG or JPEG, or "
            "take it away"
        ) from error


def _converted(picture: Image.Image, file: Path, mode: str) -> Image.Image:
    """The picture with 8 bits a channel, nothing transparent, in RGB or grey."""
    try:
        if picture.has_transparency_data:
            opaque = Image.new("RGBA", picture.size, WHITE)
            return Image.alpha_composite(opaque, picture.convert("RGBA")).convert(mode)
        return (_eight_bit(picture) if picture.mode in DEEP else picture).convert(mode)
    except ValueError as error:
        raise UserError(
            f"{file} has pixels of the kind {picture.mode} ({error}); write it anew as 8-bit RGB"
        ) from error


def _eight_bit(picture: Image.Image) -> Image.Image:
    """0 ... 65535 as 0 ... 255, to the nearest."""
    values = np.asarray(picture)
    if picture.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError("their range is not known")
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


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
