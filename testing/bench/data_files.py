"""Picture files made for a measurement: many small PNGs of given images, and drawn JPEGs like photographs in size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

CLASSES = 10
QUALITY, FALL = 80, 1.7  # with these the files are about as large as photographs of their size
BATCH = 256  # files a task


def write_pngs(images: Tensor, count: int, folder: Path, tick: Callable[[], None] = lambda: None) -> list[Path]:
    """PNG files in a folder a class.

    Args:
        images: uint8 (N, 3, H, W). When they are used up they come again with other colours, so that no two are equal.
        count: Of files.
        folder: For ``0/000000.png`` and so on; may not be there yet.
        tick: Called after every `BATCH` files.

    Returns:
        The files, in the order of the images.
    """
    rows = images.permute(0, 2, 3, 1).numpy()  # (N, H, W, 3)

    def write(file: Path, i: int) -> None:
        again, k = divmod(i, len(rows))
        Image.fromarray(rows[k] + np.uint8(16 * again)).save(file, compress_level=1)

    return _write(write, count, folder, ".png", tick)


def draw_jpegs(count: int, side: int, folder: Path, tick: Callable[[], None] = lambda: None) -> list[Path]:
    """JPEG files of drawn pictures in a folder a class: waves of many lengths, as costly as photographs.

    Args:
        count: Of files.
        side: Height and width in pixels.
        folder: For ``0/000000.jpg`` and so on; may not be there yet.
        tick: Called after every `BATCH` files.
    """

    def write(file: Path, i: int) -> None:
        Image.fromarray(_waves(side, i)).save(file, quality=QUALITY)

    return _write(write, count, folder, ".jpg", tick)


def _write(
    write: Callable[[Path, int], None], count: int, folder: Path, ending: str, tick: Callable[[], None]
) -> list[Path]:
    for k in range(CLASSES):
        (folder / str(k)).mkdir(parents=True, exist_ok=True)
    files = [folder / str(i % CLASSES) / f"{i:06d}{ending}" for i in range(count)]

    def some(numbers: Sequence[int]) -> None:
        for i in numbers:
            write(files[i], i)

    with ThreadPoolExecutor() as pool:  # Pillow compresses without the interpreter's lock
        for _ in pool.map(some, [range(k, min(k + BATCH, count)) for k in range(0, count, BATCH)]):
            tick()
    return files


def _waves(side: int, seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Noise whose strength falls with the frequency, the channels much alike, as in photographs; (side, side, 3)."""
    random = torch.Generator().manual_seed(seed)
    noise = torch.randn(3, side, side, generator=random) + 2 * torch.randn(1, side, side, generator=random)
    spectrum = torch.fft.rfft2(noise)  # (3, side, side/2 + 1)
    y, x = torch.fft.fftfreq(side).abs(), torch.fft.rfftfreq(side)
    distance = (y[:, None] ** 2 + x**2).sqrt().clamp(min=1 / side)
    waves = torch.fft.irfft2(spectrum / distance**FALL, s=(side, side))
    scaled = 128 + 64 * waves / waves.std()
    pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    pixels = scaled.clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return pixels
