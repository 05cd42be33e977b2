"""What is scored when it is a network."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..assemble import Model
from ..facts import check_codec
from ..folder import RunFolder
from ..weights import Weights


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


def load_trained(model: Model, folder: RunFolder, found: Weights) -> Trained:
    """Weights of a run, put into the model's backbone.

    Args:
        model: Around them.
        folder: The run's.
        found: The weights.

    Raises:
        UserError: The model's codec is not the one that they were trained through, or they are there no more.
    """
    check_codec(model.codec, folder)
    model.backbone.load_state_dict(found.read())
    return Trained(model, model.backbone.eval(), found.kind, found.step)
