"""Keeping averages on disk while training goes on.

A snapshot has the form of a checkpoint: whole or not there, under a manifest, without pickles. Those of an average are
in ``averages/<its label>`` of the run's folder, named by their step.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ...core import images_of
from ...core.averages import Power
from .. import checkpoints
from .averages import Averaged
from .strategies import Strategy

GROUP = "weights"
ALL = 10**9  # how many are kept


class Snapshots:
    """Those of one training; its methods are called on all ranks together.

    Args:
        folder: Of the run's averages.
        averages: Of the training; those that are no `Power`, or want no snapshots, are left alone.
        strategy: Puts a sharded network together; rank 0 writes.
        batch_size: Images a step, of all ranks together.
    """

    def __init__(self, folder: Path, averages: Iterable[Averaged], strategy: Strategy, batch_size: int) -> None:
        self.folder, self.strategy, self.batch_size = folder, strategy, batch_size
        self.kept = [(one.rule, one.network) for one in averages if isinstance(one.rule, Power) and one.rule.snapshots]

    def cut_back(self, step: int) -> None:
        """Remove what is later than the step at which training goes on, and what was half written."""
        if self.strategy.world.first:
            for track in (path for path in self.folder.glob("*") if path.is_dir()):  # and what `dmf ema` made of them
                for left in track.glob(".tmp-*"):
                    shutil.rmtree(left)
                for later in (there for there in checkpoints.steps(track) if there > step):
                    checkpoints.discard(checkpoints.place(track, later))
            for rule, _ in self.kept:
                (self.folder / rule.label).mkdir(parents=True, exist_ok=True)
        self.strategy.world.barrier()

    def after(self, step: int, last: bool) -> None:
        """Write those that are due.

        Args:
            step: Steps taken.
            last: Whether training ends here.
        """
        for rule, network in self.kept:
            if last or is_due(rule, step, self.batch_size):
                with self.strategy.whole(network) as whole:
                    if self.strategy.world.first:
                        self._write(rule, whole, step)
                self.strategy.world.barrier()

    def _write(self, rule: Power, network: nn.Module, step: int) -> None:
        averaged = [name for name, _ in network.named_parameters(remove_duplicate=False)]
        facts = {
            "images_seen": step * self.batch_size,
            "length": rule.length,
            "averaged": averaged,
            "dtypes": {name: str(value.dtype).removeprefix("torch.") for name, value in network.state_dict().items()},
        }
        tensors = stored(network.state_dict(), set(averaged), getattr(torch, rule.dtype))
        checkpoints.save(self.folder / rule.label, step, {GROUP: tensors}, facts, ALL)


def is_due(rule: Power, step: int, batch_size: int) -> bool:
    """Whether a snapshot comes after this step: the first that has seen so many more images."""
    assert rule.snapshots is not None
    every = images_of(rule.snapshots, batch_size)
    return step * batch_size // every > (step - 1) * batch_size // every


def stored(tensors: Mapping[str, Tensor], averaged: set[str], dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights in the arithmetic of the snapshot, buffers as they are; what is one tensor stays one."""
    made: dict[tuple[int, torch.Size], Tensor] = {}
    found = {}
    for name, value in tensors.items():
        if name in averaged and value.is_floating_point():
            key = (value.data_ptr(), value.shape)
            found[name] = made.setdefault(key, value.detach().to("cpu", dtype))
        else:
            found[name] = value
    return found
