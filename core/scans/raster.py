"""Row by row, each from left to right; reversed, row by row from the last patch to the first."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Scan


@dataclass(frozen=True, kw_only=True)
class Raster(Scan):
    """Row by row, each from left to right."""

    def path(self, rows: int, columns: int) -> Tensor:
        """0, 1, 2, ..."""
        return torch.arange(rows * columns)
