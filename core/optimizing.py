"""What an optimizer is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class WeightGroup:
    """Weights that are treated alike.

    Attributes:
        names: Their names in the module.
        weights: They themselves, trainable.
        lr: Their learning rate after the warm-up.
        decays: Whether weight decay applies to them.
        hidden: Whether they are matrices between hidden layers, convolutions among them: what is in `Backbone.blocks`
            and has two dimensions or more, but for embeddings and convolutions of one channel each.
    """

    names: tuple[str, ...]
    weights: tuple[nn.Parameter, ...]
    lr: float
    decays: bool
    hidden: bool = False


MakeOptimizer = Callable[[Sequence[WeightGroup]], torch.optim.Optimizer]
"""An optimizer part is a function (groups, *, options) -> torch's optimizer, with one group each, in order."""


def take_step(optimizer: torch.optim.Optimizer, bad: Tensor) -> None:
    """One step of an optimizer; where ``bad`` is 1 it changes no weight, no moment and no count.

    An optimizer that can see to it on the device says so with torch's own mark for mixed precision,
    ``_step_supports_amp_scaling``, and reads ``found_inf``; those of torch that are fused do. For any other the host
    waits for the device and leaves the step out.

    Args:
        optimizer: Of weights that have their gradients.
        bad: 1.0 where the gradient is not finite, else 0.0; 0-d, float32, on the weights' device, equal on all ranks.
    """
    if getattr(optimizer, "_step_supports_amp_scaling", False):
        optimizer.found_inf = bad  # type: ignore[attr-defined]
        optimizer.step()
    elif not bool(bad):
        optimizer.step()
