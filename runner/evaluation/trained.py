"""What is scored when it is a network."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..assemble import Model


@dataclass(frozen=True)
class Trained:
    """A network to score.

    Attributes:
        model: Around it.
        network: The weights, in eval mode.
        weights: ``ema`` or ``raw``: which they are.
        step: Training steps behind them.
    """

    model: Model
    network: torch.nn.Module
    weights: str
    step: int
