"""Column by column, each from top to bottom; reversed, column by column from the last patch to the first."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Scan


@dataclass(frozen=True, kw_only=True)
class Column(Scan):
    """Column by column, each from top to bottom."""

    def path(self, rows: int, columns: int) -> Tensor:
        """0, columns, 2 columns, ..., 1, columns + 1, ..."""
        return torch.arange(rows * columns).reshape(rows, columns).T.flatten()
