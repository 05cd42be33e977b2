"""The averages of the weights that samples are made with, kept in step with the training."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ...core import Average


@dataclass(frozen=True)
class Averaged:
    """An average while training goes on.

    Attributes:
        rule: Says how much of it stays in a step.
        network: Holds it; never trained.
        group: The checkpoint's name for it.
    """

    rule: Average
    network: nn.Module
    group: str

    def follow(self, network: nn.Module, step: int, batch_size: int) -> None:
        """Take the weights of a step in.

        Args:
            network: What is trained, after the step.
            step: Steps taken before it.
            batch_size: Images a step, of all ranks together.
        """
        decay = self.rule.decay(step, batch_size)
        if decay is not None:
            update(self.network, network, decay)


def copy_of(network: nn.Module) -> nn.Module:
    """A copy to hold an average, never trained."""
    return copy.deepcopy(network).eval().requires_grad_(False)


def averages_of(
    rules: list[Average], network: nn.Module, copied: Callable[[nn.Module], nn.Module] = copy_of
) -> list[Averaged]:
    """One for each rule; the first is the one that samples are made with, ``ema`` in a checkpoint.

    Args:
        rules: Of the recipe.
        network: What is trained.
        copied: Makes a copy of it as `copy_of` does, of parts where the network is in parts.
    """
    return [
        Averaged(rule, copied(network), f"ema-{rule.label}" if place else "ema") for place, rule in enumerate(rules)
    ]


@torch.no_grad()
def update(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Average <- decay average + (1 - decay) network; buffers are taken over as they are."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
    for held, now in zip(average.buffers(), network.buffers(), strict=True):
        held.copy_(now)
