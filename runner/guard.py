"""The guard against losses that are not finite.

A gradient that is not finite is so on every rank, since ranks add theirs up: all pass over the step together, nobody
asks anybody, and the CPU does not wait for the device. The counts are read at the logging interval.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Diverged(Exception):
    """Too many steps in a row had a loss that is not finite; the text says which images they saw."""


class Guard:
    """Counts bad steps on the device.

    Args:
        device: Where the counts live.
        limit: Bad steps in a row that end the run.
        counts: (in all, in a row, first of the row) of a run that is resumed.
    """

    def __init__(self, device: torch.device, limit: int, counts: tuple[int, int, int] = (0, 0, -1)) -> None:
        self.limit = limit
        self.total, self.row, self.first = (torch.tensor(n, dtype=torch.int64, device=device) for n in counts)

    def judge(self, gradient_norm: Tensor, images_seen: int) -> Tensor:
        """1.0 where the step of the batch that starts at ``images_seen`` must be passed over, else 0.0; 0-d."""
        bad = ~torch.isfinite(gradient_norm)
        self.first = torch.where(bad & (self.row == 0), images_seen, self.first)
        self.row = torch.where(bad, self.row + 1, 0)
        self.total = self.total + bad
        return bad.to(torch.float32)

    def counts(self) -> tuple[int, int, int]:
        """(in all, in a row, images seen before the first of the row): waits for the device."""
        return int(self.total), int(self.row), int(self.first)

    def exceeded(self) -> bool:
        """Whether the run must end: waits for the device."""
        return int(self.row) >= self.limit
