"""Move images by whole pixels: pad, and cut the old size out at a random place.

Source: He et al. 2015, "Deep Residual Learning for Image Recognition" (arXiv 1512.03385), section 4.2, with 4 pixels
for 32 x 32. Cost: two passes over the batch. The network is not told, so samples are moved as often as images were.
"""

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from ...core import Augmentation, DataSpec


class Crop(Augmentation):
    """Pad each image, and cut its old size out at a random place; samples are then moved as often.

    Args:
        spec: Of the data, in pixels.
        padding: Pixels on each side, and so the farthest that an image moves.
        fill: What is there: the image mirrored at its outermost pixels, or zeros, which are black.

    Raises:
        ValueError: Too few pixels to mirror so many.
    """

    draws = 2

    def __init__(
        self, spec: DataSpec, *, padding: Annotated[int, Ge(1)] = 4, fill: Literal["reflect", "zeros"] = "reflect"
    ) -> None:
        super().__init__(spec)
        least = min(spec.shape[1:])
        if fill == "reflect" and padding >= least:
            raise ValueError(
                f"augmentation `crop` cannot mirror {padding} pixels of an image with a side of {least}; write "
                f"{f'padding: {least - 1} or less, or ' if least > 1 else ''}fill: zeros"
            )
        self.padding, self.fill = padding, fill

    def __call__(self, images: Tensor, draws: Tensor) -> tuple[Tensor, None]:
        """uint8 (B, C, H, W) and (B, 2) to images of the same shape; there is no label."""
        places = 2 * self.padding + 1
        start = (places * draws).to(torch.int64).clamp(max=places - 1) - self.padding  # (B, 2), in -padding ... padding
        (rows, row_there), (columns, column_there) = (
            self._read(start[:, i], images.shape[2 + i], images.device) for i in (0, 1)
        )
        count, channels, height, width = images.shape
        plane = torch.arange(count * channels, device=images.device).reshape(count, channels, 1) * height
        lines = images.reshape(-1, width).index_select(0, (plane + rows[:, None]).flatten())  # whole rows are copied
        cut = lines.view_as(images).gather(3, columns[:, None, None].expand_as(images))  # (B, C, H, W)
        there = row_there[:, None, :, None] & column_there[:, None, None]  # (B, 1, H, W)
        return cut if self.fill == "reflect" else cut * there, None

    def _read(self, start: Tensor, side: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """From which row or column each one of the cut comes, (B, side), and whether it is to be shown."""
        place = start[:, None] + torch.arange(side, device=device)
        if self.fill == "zeros":
            inside = place.clamp(0, side - 1)
            return inside, inside == place
        mirrored = side - 1 - (side - 1 - place.abs()).abs()
        return mirrored, torch.ones_like(mirrored, dtype=torch.bool)
