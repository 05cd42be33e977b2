"""What a strategy does: how ranks share a training."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

from ...world import World
from ..averages import copy_of
from ..learner import Learner

Losses = Callable[..., Tensor]


class Strategy(ABC):
    """How ranks share a training.

    Attributes:
        sharded: Whether a rank holds but a part of each tensor; then every rank writes its part of a checkpoint.
        adds_apart: Whether gradients that are added up before they are exchanged take the memory of all weights once
            more.

    Args:
        world: The ranks.
        compute: Arithmetic of the network, for a strategy that sends weights in it; None is that of the weights.
    """

    sharded: ClassVar[bool] = False
    adds_apart: ClassVar[bool] = False

    def __init__(self, world: World, compute: torch.dtype | None = None) -> None:
        self.world = world

    @classmethod
    def held(cls, weight: Tensor, ranks: int) -> int:
        """Numbers of a weight that each rank holds, also of its gradient, moments and averages; the most of all."""
        return weight.numel()

    def place(self, module: nn.Module) -> None:
        """Put a module on the device, in the form in which it is trained; once, before optimizer and averages."""
        module.to(self.world.device)

    def copy(self, network: nn.Module) -> nn.Module:
        """A copy of a network that is placed, to hold an average; it takes what a rank holds of the network."""
        return copy_of(network)

    @abstractmethod
    def wrap(self, learner: Learner) -> Losses:
        """What gives the losses of this rank's images, and makes the gradients means over all ranks."""

    def alone(self, losses: Losses) -> contextlib.AbstractContextManager[None]:
        """Around a backward pass after which others follow in the same step: ranks exchange no gradients in it."""
        return contextlib.nullcontext()

    def clip(self, weights: Iterable[nn.Parameter], most: float) -> Tensor:
        """Clip the norm of all gradients together; it as it was before, 0-d, the same on every rank."""
        return nn.utils.clip_grad_norm_(weights, most)

    def whole(self, network: nn.Module) -> contextlib.AbstractContextManager[nn.Module]:
        """The network with all its weights on this rank, to make images with; asked for on all ranks together."""
        return contextlib.nullcontext(network)
