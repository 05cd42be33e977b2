"""All that training changes, and its way into a checkpoint and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..registry import Recipe, UserError
from . import checkpoint, ema
from .guard import Guard
from .learner import Learner
from .optimizer import build_optimizer, load_optimizer_state, optimizer_state


@dataclass
class TrainState:
    """What a checkpoint holds.

    Attributes:
        learner: Backbone and objective.
        average: The EMA of the backbone; None where the recipe keeps none.
        optimizer: Its settings and moments.
        guard: Counts of bad steps.
        horizon: The length that the learning rate's decay is laid out for.
        step: Steps taken.
        images_seen: Images taken from the endless row of epochs.
        loss_sum: Sum of this rank's finite losses since the last logged point, on the device.
        loss_steps: Steps in that sum, on the device.
    """

    learner: Learner
    average: nn.Module | None
    optimizer: torch.optim.Optimizer
    guard: Guard
    horizon: int
    loss_sum: Tensor
    loss_steps: Tensor
    step: int = 0
    images_seen: int = 0


def fresh(recipe: Recipe, learner: Learner, device: torch.device) -> TrainState:
    """The state before the first step."""
    learner = learner.to(device)
    average = ema.average_of(learner.backbone) if recipe.train.ema > 0 else None
    guard = Guard(device, recipe.train.stop_after_bad_steps)
    zero = torch.zeros((), device=device)
    return TrainState(learner, average, build_optimizer(recipe, learner), guard, recipe.train.steps, zero, zero.clone())


def save(state: TrainState, folder: Path, keep: int, loss_sum: float, hooks: dict[str, Any]) -> Path:
    """Write a checkpoint; on rank 0.

    Args:
        state: What to write.
        folder: Of checkpoints.
        keep: How many of them stay.
        loss_sum: Mean over ranks of ``state.loss_sum``.
        hooks: States of hooks.
    """
    moments, settings = optimizer_state(state.optimizer)
    tensors = {"model": state.learner.backbone.state_dict(), "optimizer": moments}
    if state.average is not None:
        tensors["ema"] = state.average.state_dict()
    if own := _objective_weights(state.learner):
        tensors["objective"] = own
    facts = {
        "images_seen": state.images_seen,
        "horizon": state.horizon,
        "loss_sum": loss_sum,
        "loss_steps": float(state.loss_steps),
        "bad_steps": state.guard.counts(),
        "optimizer": settings,
        "hooks": hooks,
    }
    return checkpoint.save(folder, state.step, tensors, facts, keep)


def restore(state: TrainState, saved: checkpoint.Checkpoint) -> None:
    """Put a checkpoint's contents into ``state``."""
    device = state.loss_sum.device
    state.learner.backbone.load_state_dict(dict(saved.tensors["model"]))
    if state.average is not None:
        state.average.load_state_dict(dict(saved.tensors["ema"]))
    if isinstance(state.learner.objective, nn.Module):
        state.learner.objective.load_state_dict(dict(saved.tensors.get("objective", {})))
    load_optimizer_state(state.optimizer, dict(saved.tensors["optimizer"]), saved.facts["optimizer"])
    facts = saved.facts
    state.guard = Guard(device, state.guard.limit, tuple(facts["bad_steps"]))
    state.step, state.images_seen, state.horizon = saved.step, facts["images_seen"], facts["horizon"]
    state.loss_sum = torch.tensor(facts["loss_sum"], device=device)
    state.loss_steps = torch.tensor(facts["loss_steps"], device=device)


def load_weights(network: nn.Module, source: str, runs: Path) -> None:
    """Start from the weights of a run, by folder or by name under ``runs``, or of a safetensors file (`init_from`).

    Raises:
        UserError: Nothing there, or weights of another network; the message names the tensors.
    """
    tensors, where = _weights_of(Path(source) if Path(source).exists() else runs / source)
    mine = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    theirs = {name: tuple(value.shape) for name, value in tensors.items()}
    if mine != theirs:
        wrong = [
            f"{n}: {theirs.get(n, 'missing there')} -> {mine.get(n, 'unknown here')}"
            for n in sorted({*mine, *theirs})
            if mine.get(n) != theirs.get(n)
        ]
        listed = "\n  ".join(wrong[:8] + ([f"... and {len(wrong) - 8} more"] if len(wrong) > 8 else []))
        raise UserError(f"init_from: the weights of {where} are of another network than the recipe's:\n  {listed}")
    network.load_state_dict(dict(tensors))


def _weights_of(source: Path) -> tuple[checkpoint.Tensors, Path]:
    if source.is_file():
        try:
            return load_file(source), source
        except (OSError, SafetensorError) as error:
            raise UserError(f"init_from: {source} is no readable safetensors file: {error}") from None
    saved = checkpoint.newest(source / "checkpoints", None)
    if saved is None:
        raise UserError(f"init_from: {source} is neither a safetensors file nor a run folder with a checkpoint")
    return saved.tensors.get("ema", saved.tensors["model"]), saved.path


def _objective_weights(learner: Learner) -> dict[str, Tensor]:
    return learner.objective.state_dict() if isinstance(learner.objective, nn.Module) else {}
