"""The whole network on every rank; gradients are averaged while they are made.

Source: Li et al. 2020, "PyTorch Distributed: Experiences on Accelerating Data Parallel Training" (arXiv 2006.15704).
"""

from __future__ import annotations

import contextlib

from torch.nn.parallel import DistributedDataParallel

from ..learner import Learner
from .base import Losses, Strategy, device_ids


class DDP(Strategy):
    """torch's DistributedDataParallel."""

    def wrap(self, learner: Learner) -> Losses:
        """The learner, whose backward pass averages gradients over ranks."""
        return DistributedDataParallel(learner, device_ids=device_ids(self.world.device))

    def alone(self, losses: Losses) -> contextlib.AbstractContextManager[None]:
        """Gradients stay where they are, to be added to."""
        assert isinstance(losses, DistributedDataParallel)
        found: contextlib.AbstractContextManager[None] = losses.no_sync()
        return found
