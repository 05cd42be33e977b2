"""The guard against losses that are not finite.

A gradient that is not finite is so on every rank, since ranks add theirs up: all pass over the step together, nobody
asks anybody, and the CPU does not wait for the device. The counts are read at the logging interval.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..launching import HOPELESS, launched_by_us
from ..trouble import Failure


class Diverged(Failure):
    """Too many steps in a row had a loss that is not finite; the text says which images they saw.

    From the last checkpoint the same steps come again, bit for bit: no launcher of ours is to start the ranks anew.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        if launched_by_us():
            self.exit_code = HOPELESS


class Guard:
    """Counts bad steps on the device.

    Args:
        device: Where the counts live.
        limit: Bad steps in a row that end the run.
        counts: Those of `counts`, of a run that is resumed.
    """

    def __init__(self, device: torch.device, limit: int, counts: tuple[int, int, int, int] = (0, 0, 0, -1)) -> None:
        self.limit = limit
        self.total, self.row, self.longest, self.first = torch.tensor(counts, dtype=torch.int64, device=device)

    def judge(self, bad: Tensor, images_seen: int) -> None:
        """Count the step of the batch that starts at ``images_seen``.

        Args:
            bad: Whether its loss or gradient was not finite, 0-d bool.
            images_seen: Before it.
        """
        # where the row that reaches the limit began is kept, also when good steps follow before anybody looks
        begins = bad & (self.row == 0) & (self.longest < self.limit)
        self.first = torch.where(begins, images_seen, self.first)
        self.row = torch.where(bad, self.row + 1, 0)
        self.longest = torch.maximum(self.longest, self.row)
        self.total = self.total + bad

    def counts(self) -> tuple[int, int, int, int]:
        """(in all, in a row now, longest row, images seen before the row): waits for the device."""
        return int(self.total), int(self.row), int(self.longest), int(self.first)

    def exceeded(self) -> bool:
        """Whether the run must end: waits for the device."""
        return int(self.longest) >= self.limit
