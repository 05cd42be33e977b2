"""The whole network on every rank; gradients are averaged while they are made.

Source: Li et al. 2020, "PyTorch Distributed: Experiences on Accelerating Data Parallel Training" (arXiv 2006.15704),
section 3.2.3 for buckets.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ....files.words import few
from ....registry import UserError
from ..learner import Learner
from .base import Losses, Strategy


class DDP(Strategy):
    """torch's DistributedDataParallel."""

    adds_apart = True  # what is exchanged lies in buckets
    _names: dict[nn.Parameter, str]

    def wrap(self, learner: Learner) -> Losses:
        """The learner, whose backward pass averages gradients over ranks."""
        self._names = {weight: name for name, weight in learner.named_parameters()}
        # no device_ids: all is on the device already, and with them DDP cannot be called with nothing, as it is here
        shared = DistributedDataParallel(_InOrder(learner), gradient_as_bucket_view=True)
        shared().backward()
        learner.zero_grad(set_to_none=True)
        return shared

    def alone(self, losses: Losses) -> contextlib.AbstractContextManager[None]:
        """Gradients stay where they are, to be added to."""
        assert isinstance(losses, DistributedDataParallel)
        found: contextlib.AbstractContextManager[None] = losses.no_sync()
        return found

    def clip(self, weights: Iterable[nn.Parameter], most: float) -> Tensor:
        """Clip the norm of all gradients together; it as it was before, 0-d.

        Raises:
            UserError: A weight has no gradient; the ranks would wait for it, for its bucket is never full.
        """
        weights = list(weights)
        idle = [self._names[weight] for weight in weights if weight.requires_grad and weight.grad is None]
        if idle:
            raise UserError(
                f"distributed.strategy: ddp averages the gradients of all weights that are trained, and the loss gives "
                f"none to {few(idle)}: the forward pass does not use them. Leave them out of "
                "the network, freeze them (train.freeze), or write distributed.strategy: fsdp, which passes over them"
            )
        return super().clip(weights, most)


class _InOrder(nn.Module):
    """A learner whose gradients once come in an order of our own: what DDP makes its lasting buckets of.

    DDP fills new buckets in the order in which the first backward pass gives gradients, and three ranks and more add a
    gradient up in an order that depends on its place in a bucket. A resumed run takes its first step later than the run
    that it repeats: without this it would round that step in another way.

    Args:
        learner: Does the work.
    """

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.learner = learner

    def forward(self, *given: Any) -> Tensor:
        """The learner's losses; of nothing at all, a sum whose gradients come last weight first, as in training."""
        if given:
            losses: Tensor = self.learner(*given)
            return losses
        # autograd goes back through what was made last first
        return torch.stack([weight.sum() for weight in self.learner.parameters() if weight.requires_grad]).sum()
