"""A training step for which a GPU's memory does not suffice: what was asked for, and what needs less of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from ...core import Backbone
from ..trouble import Failure, memory_asked
from .step import Stepper


class OutOfMemory(Failure):
    """The memory does not suffice for a step; the text says what needs less."""


@contextlib.contextmanager
def memory_of_a_step(step: Stepper, has_checkpoint: bool) -> Iterator[None]:
    """Around one step.

    Args:
        step: Takes it.
        has_checkpoint: Whether the run has one to go on from, with which its precision is settled.

    Raises:
        OutOfMemory: On a rank whose memory does not suffice.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        less = remedies(step, has_checkpoint) or ["a smaller network, or a GPU with more memory"]
        where = " on a rank" if step.strategy.world.size > 1 else ""
        raise OutOfMemory(
            f"out of memory in step {step.state.step + 1}, of {step.micro_batch} images at a time{where}: "
            f"{memory_asked(error)}. Less is needed with {', or '.join(less)}"
        ) from error


def remedies(step: Stepper, has_checkpoint: bool) -> list[str]:
    """What a recipe can say to need less memory and does not say yet, the easiest first.

    Args:
        step: Of the training.
        has_checkpoint: Whether the run has one to go on from, with which its precision is settled.
    """
    train, learner, found = step.recipe.train, step.state.learner, []
    if step.micro_batch > 1:
        auto = "" if train.micro_batch == "auto" else "auto, or "
        found.append(f"train.micro_batch={auto}{step.micro_batch // 2}")
    networks = [module for module in learner.modules() if isinstance(module, Backbone)]
    if not train.activation_checkpointing and any(network.blocks() for network in networks):
        found.append("train.activation_checkpointing=true")
    if learner.autocast is None:
        found.append("train.precision=bf16" + (" in a new run" if has_checkpoint else ""))
    if step.recipe.distributed.strategy != "fsdp":
        found.append("distributed.strategy=fsdp" + ("" if step.strategy.world.size > 1 else " on several GPUs"))
    return found
