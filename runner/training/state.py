"""All that training changes, and its way into a checkpoint and back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...core import load_optimizer_state, make_state, optimizer_state
from ...registry import Recipe, UserError
from .. import checkpoints
from ..average_rules import average_rules
from .averages import Averaged, averages_of
from .guard import Guard
from .learner import Learner
from .micro_batches import Fitted
from .optimizer import build_optimizer
from .precision import LossScale
from .strategies import Strategy


@dataclass
class TrainState:
    """What a checkpoint holds.

    Attributes:
        learner: Backbone and objective.
        averages: Of the backbone's weights; the first is the one that samples are made with.
        optimizer: Its settings and moments.
        guard: Counts of bad steps.
        precision: Of the network's arithmetic, settled.
        horizon: Images that the learning rate's decay is laid out for.
        step: Steps taken.
        images_seen: Images taken from the endless row of epochs.
        loss_sum: Sum of this rank's finite losses since the last logged point, on the device.
        loss_steps: Steps in that sum, on the device.
        scale: Of the loss; None in arithmetic that needs none.
        fitted: The size of micro-batches, where it was left to the memory.
    """

    learner: Learner
    averages: list[Averaged]
    optimizer: torch.optim.Optimizer
    guard: Guard
    precision: str
    horizon: int
    loss_sum: Tensor
    loss_steps: Tensor
    scale: LossScale | None = None
    fitted: Fitted | None = None
    step: int = 0
    images_seen: int = 0

    @property
    def to_show(self) -> nn.Module:
        """The network that samples are made with: the first average, or the weights themselves without any."""
        return self.averages[0].network if self.averages else self.learner.backbone

    @property
    def shown(self) -> str:
        """Which weights those are, ``ema`` or ``raw``."""
        return "ema" if self.averages else "raw"


def fresh(recipe: Recipe, learner: Learner, strategy: Strategy, precision: str) -> TrainState:
    """The state before the first step."""
    train, device = recipe.train, strategy.world.device
    strategy.place(learner)  # first: what is in parts is copied in parts
    averages = averages_of(average_rules(recipe), learner.backbone, strategy.copy)
    guard, zero = Guard(device, train.stop_after_bad_steps), torch.zeros((), device=device)
    horizon = train.steps * train.batch_size
    scale = LossScale(strategy.world) if precision == "fp16" else None
    optimizer = build_optimizer(recipe, learner)
    return TrainState(learner, averages, optimizer, guard, precision, horizon, zero, zero.clone(), scale)


def groups_of(state: TrainState) -> dict[str, checkpoints.Tensors]:
    """The tensors of a checkpoint, in their groups."""
    groups: dict[str, checkpoints.Tensors] = {
        "model": state.learner.backbone.state_dict(),
        "optimizer": optimizer_state(state.optimizer, state.learner)[0],
    }
    groups |= {one.group: one.network.state_dict() for one in state.averages}
    if own := _objective_weights(state.learner):
        groups["objective"] = own
    return groups


def facts_of(state: TrainState, loss_sum: float, hooks: dict[str, Any]) -> dict[str, Any]:
    """The rest of a checkpoint, plain JSON.

    Args:
        state: What to write.
        loss_sum: Mean over ranks of ``state.loss_sum``.
        hooks: States of hooks.
    """
    return {
        "images_seen": state.images_seen,
        "precision": state.precision,
        "horizon": state.horizon,
        "loss_sum": loss_sum,
        "loss_steps": float(state.loss_steps),
        "bad_steps": state.guard.counts(),
        "loss_scale": None if state.scale is None else state.scale.counts(),
        "micro_batch": None if state.fitted is None else asdict(state.fitted),
        "optimizer": optimizer_state(state.optimizer, state.learner)[1],
        "hooks": hooks,
        "averages": [one.rule.label for one in state.averages],
    }


def restore(state: TrainState, saved: checkpoints.Checkpoint) -> None:
    """Put a checkpoint's contents into ``state``, of which this rank may hold but a part.

    Args:
        state: To fill.
        saved: Verified; its tensors need not have been read.
    """
    device = state.loss_sum.device
    checkpoints.restore_into(saved.path, "model", state.learner.backbone.state_dict())
    for one in state.averages:
        checkpoints.restore_into(saved.path, one.group, one.network.state_dict())
    if own := _objective_weights(state.learner):
        checkpoints.restore_into(saved.path, "objective", own)
    _restore_optimizer(state, saved)
    facts = saved.facts
    state.guard = Guard(device, state.guard.limit, tuple(facts["bad_steps"]))
    if state.scale is not None:
        state.scale = LossScale(state.scale.world, *facts["loss_scale"])
    if facts["micro_batch"] is not None:
        state.fitted = Fitted(**facts["micro_batch"])
    state.step, state.images_seen, state.horizon = saved.step, facts["images_seen"], facts["horizon"]
    state.loss_sum = torch.tensor(facts["loss_sum"], device=device)
    state.loss_steps = torch.tensor(facts["loss_steps"], device=device)


def _restore_optimizer(state: TrainState, saved: checkpoints.Checkpoint) -> None:
    make_state(state.optimizer)
    mine = optimizer_state(state.optimizer, state.learner)[0]
    there = checkpoints.shapes_in(saved.path, "optimizer")
    # what has no place here is refused by its name and shape, before anything is read
    held = {
        name: mine[name] if name in mine and mine[name].shape == shape else torch.empty(shape, device="meta")
        for name, shape in there.items()
    }
    try:
        load_optimizer_state(state.optimizer, state.learner, held, saved.facts["optimizer"])
    except ValueError as error:
        raise UserError(f"{saved.path}: {error}") from error
    checkpoints.restore_into(saved.path, "optimizer", held)


def _objective_weights(learner: Learner) -> dict[str, Tensor]:
    return learner.objective.state_dict() if isinstance(learner.objective, nn.Module) else {}
