"""A snake: along one line, back along the next, so that every step leads to a neighbour.

Source: Hu et al. 2024, "ZigMa: A DiT-style Zigzag Mamba Diffusion Model" (arXiv 2403.13802), section 3.2. Its eight
paths are the four corners with rows and with columns.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .base import Scan


@dataclass(frozen=True, kw_only=True)
class Zigzag(Scan):
    """A snake through the patches, from a corner along rows or columns.

    Attributes:
        corner: Where it begins.
        along: Whether its long strokes are rows or columns.
    """

    corner: Literal["top_left", "top_right", "bottom_left", "bottom_right"] = "top_left"
    along: Literal["rows", "columns"] = "rows"

    def path(self, rows: int, columns: int) -> Tensor:
        """The snake from that corner."""
        lines = torch.arange(rows * columns).reshape(rows, columns)
        # seen from its corner, every snake begins at the top left
        mirrored = [axis for axis, side in enumerate(("bottom", "right")) if side in self.corner]
        lines = lines.flip(mirrored)
        if self.along == "columns":
            lines = lines.T
        snake = lines.clone()
        snake[1::2] = lines[1::2].flip(1)
        return snake.flatten()
