"""Rows that live on the device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ...files.words import told_size
from .moving import there
from .source import Rows, Source


class Resident(Source):
    """Rows that all lie on the device: a batch costs one gather there.

    Args:
        values: (N, ...), images as uint8.
        cond: Conditioning, (N, ...) each.
        device: Where they go.
    """

    def __init__(self, values: Tensor, cond: Mapping[str, Tensor], device: torch.device) -> None:
        self.values = values.to(device)
        self.cond = {name: value.to(device) for name, value in cond.items()}

    def __len__(self) -> int:
        return len(self.values)

    def take(self, numbers: Tensor) -> Rows:
        """Gathered on the device."""
        where = there(numbers, self.values.device)
        return self.values.index_select(0, where), {n: value.index_select(0, where) for n, value in self.cond.items()}

    def about(self) -> str:
        """Where and how large."""
        place = "in memory" if self.values.device.type == "cpu" else "on the GPU"
        return f"{place} ({told_size(bytes_of(self.values, self.cond))})"


def bytes_of(values: Tensor, cond: Mapping[str, Tensor]) -> int:
    """Memory of rows that are held."""
    return sum(one.numel() * one.element_size() for one in (values, *cond.values()))
