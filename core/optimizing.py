"""What an optimizer is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class WeightGroup:
    """Weights that are treated alike.

    Attributes:
        names: Their names in the module.
        weights: They themselves, trainable.
        lr: Their learning rate after the warm-up.
        decays: Whether weight decay applies to them.
    """

    names: tuple[str, ...]
    weights: tuple[nn.Parameter, ...]
    lr: float
    decays: bool


MakeOptimizer = Callable[[Sequence[WeightGroup]], torch.optim.Optimizer]
"""An optimizer part is a function (groups, *, options) -> torch's optimizer, with one group each, in order."""
