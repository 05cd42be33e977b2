"""Sets that are in memory as they were published, in another size.

Each image goes through `dmf.files.pictures.square`, as picture files do: the middle cut out, Pillow's antialiased
bicubic filter. At the size that it has, an image stays as it is, bit for bit.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, TypeAlias

import torch
from annotated_types import Ge
from PIL import Image
from torch import Tensor

from ...files.machine import cores
from ...files.pictures import square
from ...files.progress import Progress

Size: TypeAlias = Annotated[int, Ge(1)] | None
AT_ONCE = 500  # images that a thread takes


def resized(images: Tensor, size: int | None) -> Tensor:
    """Images of another size, on all cores and with a progress bar.

    Args:
        images: uint8 (N, 1 or 3, H, W).
        size: Their side; None, or the one that they have, leaves them as they are.

    Returns:
        uint8 (N, C, size, size).
    """
    if size is None or images.shape[2:] == (size, size):
        return images
    out = torch.empty(*images.shape[:2], size, size, dtype=torch.uint8)

    def work(start: int) -> int:
        rows = images[start : start + AT_ONCE]
        for i, pixels in enumerate(rows.permute(0, 2, 3, 1).squeeze(-1).numpy(), start):  # (H, W, 3) or (H, W)
            out[i] = square(Image.fromarray(pixels), size)
        return len(rows)

    with ThreadPoolExecutor(cores()) as pool, Progress("resize", len(images)) as progress:
        for done in pool.map(work, range(0, len(images), AT_ONCE)):
            progress.step(done)
    return out
