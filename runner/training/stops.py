"""When a training that was asked to stop does so: all ranks after the same step."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.distributed as dist

from ..signals import Signals
from ..world import World

AGREED_EVERY_S = 0.5  # of the grace that a scheduler gives, 10 s or more


class Stops:
    """Agrees on a stop between steps.

    On CPUs ranks agree before each step. On GPUs they do so through the CPU, in a group of their own, so that nobody
    waits for a device; and, where steps are fast, only about every half second: the slowest rank's step says after how
    many steps again, so that all ask after the same one. At most twice as many as before: the first steps are as fast
    as the host can hand them over, until the device's queue is full.

    Args:
        world: The ranks.
        signals: What this one was asked.
        clock: Whether, by rank 0's clock, a checkpoint is due; all ranks hear of it on the same way.

    Attributes:
        overdue: Whether it is, after `asked`.
    """

    def __init__(self, world: World, signals: Signals, clock: Callable[[], bool] = lambda: False) -> None:
        self.world, self.signals, self._clock = world, signals, clock
        self.overdue = False
        own = world.size > 1 and world.device.type != "cpu"
        self._group = world.group_on_host() if own else None
        self._left, self._steps, self._since_s = 0, 0, time.monotonic()

    def asked(self) -> int:
        """The signal that asks for a stop before the next step, 0 for none; the same on every rank."""
        if self.world.size == 1:
            self.overdue = self._clock()
            return self.signals.requested
        self.overdue = False
        self._left -= 1
        self._steps += 1
        if self._left > 0:
            return 0
        return self._agree()

    def _agree(self) -> int:
        now_s = time.monotonic()
        step_us = int(1e6 * (now_s - self._since_s) / max(self._steps, 1))
        told = torch.tensor([self.signals.requested, step_us, int(self.world.first and self._clock())])
        dist.all_reduce(told, dist.ReduceOp.MAX, group=self._group)
        if self._group is not None:
            self._left = max(1, min(2 * self._steps, int(1e6 * AGREED_EVERY_S / max(int(told[1]), 1))))
        self._steps, self._since_s = 0, now_s
        self.overdue = bool(told[2])
        return int(told[0])
