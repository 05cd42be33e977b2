"""The running average of the weights that samples are made with.

Source: Ho et al. 2020 (arXiv 2006.11239), appendix B; the warm-up is that of TensorFlow's moving average.
"""

from __future__ import annotations

import copy

import torch
from torch import nn


def decay_at(decay: float, step: int) -> float:
    """The decay of step ``step`` (from 0): min(decay, (1 + step) / (10 + step)); the start is soon forgotten."""
    return min(decay, (1 + step) / (10 + step))


def average_of(network: nn.Module) -> nn.Module:
    """A copy to hold the average, never trained."""
    return copy.deepcopy(network).eval().requires_grad_(False)


@torch.no_grad()
def update(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Average <- decay average + (1 - decay) network; buffers are taken over as they are."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
    for held, now in zip(average.buffers(), network.buffers(), strict=True):
        held.copy_(now)
