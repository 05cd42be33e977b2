"""Sets that are in memory as they were published, in another size.

Each image goes through `dmf.files.pictures.square`, as picture files do: the middle cut out, Pillow's antialiased
bicubic filter. At the size that it has, an image stays as it is, bit for bit.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import torch
from annotated_types import Ge
from PIL import Image
from torch import Tensor

from ...files.pictures import square
from ...files.threads import on_all_cores

Side: TypeAlias = Annotated[int, Ge(1)]
Size: TypeAlias = Side | None


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
    rows = images.permute(0, 2, 3, 1).squeeze(-1).numpy()  # (N, H, W, 3) or (N, H, W): what Pillow takes

    def work(i: int) -> None:
        out[i] = square(Image.fromarray(rows[i]), size)

    for _ in on_all_cores(work, range(len(images)), "resize"):
        pass
    return out
