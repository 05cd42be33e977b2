"""Keeping averages on disk while training goes on.

A snapshot is a checkpoint of one group: whole or not there, under a manifest, without pickles, in parts where each rank
holds a part. Those of an average are in ``averages/<its label>`` of the run's folder, named by their step.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...core import images_of
from ...core.averages import Power
from ...core.spans import comes_round
from ...registry.recipe_types import Checkpoint as Options
from .. import checkpoints
from ..checkpoints.layout import discard, sweep
from ..weights import KEPT_GROUP
from ..world import World
from .averages import Averaged


class Track(NamedTuple):
    """An average that is kept.

    Attributes:
        rule: Says when.
        network: Holds it.
        saver: Writes it.
    """

    rule: Power
    network: nn.Module
    saver: checkpoints.Saver


class Snapshots:
    """Those of one training; its methods are called on all ranks together.

    Args:
        folder: Of the run's averages.
        averages: Of the training; those that are no `Power`, or want no snapshots, are left alone.
        world: The ranks.
        batch_size: Images a step, of all ranks together.
    """

    def __init__(self, folder: Path, averages: Iterable[Averaged], world: World, batch_size: int) -> None:
        self.folder, self.world, self.batch_size = folder, world, batch_size
        self.kept = [
            Track(one.rule, one.network, saver_of(folder / one.rule.label, world))
            for one in averages
            if isinstance(one.rule, Power) and one.rule.snapshots
        ]

    def cut_back(self, step: int) -> None:
        """Remove what is later than the step at which training goes on, and what was half written."""
        if self.world.first:
            for track in (path for path in self.folder.glob("*") if path.is_dir()):  # and what `dmf ema` made of them
                sweep(track)
                for later in (there for there in checkpoints.steps(track) if there > step):
                    discard(checkpoints.place(track, later))
            for one in self.kept:
                one.saver.folder.mkdir(parents=True, exist_ok=True)
        self.world.barrier()

    def after(self, step: int, last: bool) -> None:
        """Write those that are due.

        Args:
            step: Steps taken.
            last: Whether training ends here.
        """
        for one in self.kept:
            if last or is_due(one.rule, step, self.batch_size):
                tensors, facts = snapshot_of(one.network, getattr(torch, one.rule.dtype))
                facts |= {"length": one.rule.length, "images_seen": step * self.batch_size}
                one.saver.save(step, {KEPT_GROUP: tensors}, facts)


def saver_of(folder: Path, world: World) -> checkpoints.Saver:
    """Writes snapshots, and drops none."""
    return checkpoints.Saver(folder, world, Options(keep=10**9), lambda step, path: None)


def is_due(rule: Power, step: int, batch_size: int) -> bool:
    """Whether a snapshot comes after this step: the first that has seen so many more images."""
    assert rule.snapshots is not None
    return comes_round(images_of(rule.snapshots, batch_size), step, batch_size)


def snapshot_of(network: nn.Module, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors to write, weights in ``dtype`` and buffers as they are; and which of them are averages.

    What is one tensor stays one.
    """
    weights = {
        name: weight for name, weight in network.named_parameters(remove_duplicate=False) if weight.is_floating_point()
    }
    rounded = {id(weight): weight.detach().to(dtype) for weight in weights.values()}
    tensors = {
        name: rounded[id(weights[name])] if name in weights else value for name, value in network.state_dict().items()
    }
    facts = {"averaged": {name: str(weight.dtype).removeprefix("torch.") for name, weight in weights.items()}}
    return tensors, facts
