"""What a training step computes: the module that a strategy wraps."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from ...core import (
    Backbone,
    Denoiser,
    Level,
    Objective,
    Prediction,
    Weighting,
    checkpoint_activations,
    training_loss,
)
from ...registry import Recipe, UserError
from ..assemble import Model, part
from ..console import log
from .patterns import freeze
from .precision import dtype_of


class Learner(nn.Module):
    """The backbone, and the objective when it has weights of its own; forward gives losses.

    Args:
        model: The model; its backbone is trained.
        objective: Judges attempts.
        weighting: Weighs levels.
        loss_space: The prediction in whose terms the error is taken; None is the network's own.
        autocast: Arithmetic of the network; None is that of the weights.
    """

    def __init__(
        self,
        model: Model,
        objective: Objective,
        weighting: Weighting,
        loss_space: Prediction | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.objective = objective
        self._weighting, self._loss_space, self.autocast = weighting, loss_space, autocast
        self._denoiser: Denoiser = model.denoiser(self._network)
        self._first = True

    def _network(self, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        output = self._output(x, noise, cond)
        if self._first and output.requires_grad:
            self._first = False
            if output.shape[1] > x.shape[1]:
                output.register_hook(partial(_warn_of_idle, channels=x.shape[1]))  # type: ignore[no-untyped-call]
        return output

    def _output(self, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        if self.autocast is None:
            return self.backbone(x, noise, cond)  # type: ignore[no-any-return]
        with torch.autocast(x.device.type, self.autocast):
            return self.backbone(x, noise, cond)  # type: ignore[no-any-return]

    def forward(self, x0: Tensor, eps: Tensor, level: Level, cond: Mapping[str, Tensor]) -> Tensor:
        """One loss per image, (b,)."""
        return training_loss(self._denoiser, self.objective, self._weighting, x0, eps, level, cond, self._loss_space)


def learner_of(recipe: Recipe, model: Model, precision: str) -> Learner:
    """What a recipe's training computes, in a settled precision."""
    train = recipe.train
    loss_space = None if train.loss_space is None else part("prediction", train.loss_space)
    if train.activation_checkpointing:
        _checkpoint_activations(model.backbone)
    objective, weighting = part("objective", train.objective), part("weighting", train.weighting)
    learner = Learner(model, objective, weighting, loss_space, dtype_of(precision))
    freeze(learner, train.freeze)
    if train.freeze:
        _tell_frozen(learner)
    return learner


def _tell_frozen(learner: Learner) -> None:
    weights = list(learner.parameters())
    frozen = [weight for weight in weights if not weight.requires_grad]
    numbers = [f"{sum(weight.numel() for weight in some):,}" for some in (frozen, weights)]
    log.info("frozen: %d of %d weights, %s of %s numbers", len(frozen), len(weights), *numbers)


def _warn_of_idle(gradient: Tensor, channels: int) -> None:
    """Tell, once, of the network's extra channels that the objective does not read.

    Whether it does is seen in what comes back: an objective is any function, and says nothing of it.

    Args:
        gradient: Of the loss by the network's output, (B, C and extras, *size).
        channels: C.
    """
    idle = int((gradient[:, channels:].transpose(0, 1).flatten(1) == 0).all(1).sum())
    if idle:
        log.warning(
            "the backbone gives %d channels for images of %d, and the objective does not read %d of them: what makes "
            "those is not trained; leave them out, or name an objective in train.objective that reads them",
            gradient.shape[1],
            channels,
            idle,
        )


def _checkpoint_activations(backbone: Backbone) -> None:
    try:
        checkpoint_activations(backbone)
    except ValueError as error:
        raise UserError(f"train.activation_checkpointing: {error}") from error
