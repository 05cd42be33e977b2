"""The averages that a run kept while it was trained, from which others can be made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...core.averages import Profiles, profiles
from ...registry import UserError
from .. import checkpoints
from ..average_rules import POSTHOC
from ..console import log
from ..folder import RunFolder
from ..weights import KEPT_GROUP


@dataclass(frozen=True)
class Snapshot:
    """One average at one step, whole on disk.

    Attributes:
        path: Its folder.
        step: Steps taken.
        length: Its relative width.
        averaged: Its tensors that are averages, by name, with the training's dtype of each; others are buffers.
    """

    path: Path
    step: int
    length: float
    averaged: Mapping[str, str]

    def read(self) -> Mapping[str, Tensor]:
        """The tensors by name, as they were kept."""
        return checkpoints.load(self.path, (KEPT_GROUP,), verified=True).tensors[KEPT_GROUP]


@dataclass(frozen=True)
class Tracks:
    """Those that count for averages at a step, in the order of their steps.

    Attributes:
        snapshots: At or before it, at least one at it.
        step: The step that averages are made for.
    """

    snapshots: Sequence[Snapshot]
    step: int

    @property
    def profiles(self) -> Profiles:
        """Theirs, with time in steps."""
        return profiles([float(one.step) for one in self.snapshots], [one.length for one in self.snapshots])

    def wanted(self, length: float) -> Profiles:
        """The profile of an average that is to be made."""
        return profiles([float(self.step)], [length])

    def about(self) -> str:
        """What there is, in a few words."""
        lengths = sorted({one.length for one in self.snapshots})
        steps = sorted({one.step for one in self.snapshots})
        named = " and ".join(f"{length:g}" for length in lengths)
        return f"{len(self.snapshots)} snapshots of length {named} at {len(steps)} steps, {steps[0]} to {steps[-1]}"


def find_tracks(folder: RunFolder, step: int | None) -> Tracks:
    """Those of a run up to a step; damaged ones are named and left out.

    Args:
        folder: The run's.
        step: At which averages are wanted; None is the newest.

    Raises:
        UserError: The run kept none, or none of that step.
    """
    found = sorted(_whole(folder), key=lambda one: (one.step, one.length))
    if not found:
        raise UserError(
            f"{folder.path} kept no snapshots of averages, and none can be had after the training. For another one "
            "write, as an example, train.ema: [{name: power, length: 0.05, snapshots: 50k images}, "
            "{name: power, length: 0.1, snapshots: 50k images}]"
        )
    steps = sorted({one.step for one in found})
    at = steps[-1] if step is None else step
    if at not in steps:
        raise UserError(f"{folder.path} has no snapshot of step {at}; it has {', '.join(map(str, steps))}")
    return Tracks([one for one in found if one.step <= at], at)


def _whole(folder: RunFolder) -> Iterator[Snapshot]:
    tracks = (path for path in sorted(folder.averages.glob("*")) if not path.name.startswith(POSTHOC))
    for track in tracks:
        for step in checkpoints.steps(track):
            path = checkpoints.place(track, step)
            try:
                facts = checkpoints.load(path, ()).facts
            except checkpoints.DamagedCheckpoint as error:
                log.warning("%s; it is left out", error)
                continue
            yield Snapshot(path, step, facts["length"], facts["averaged"])


def combined(snapshots: Sequence[Snapshot], shares: Tensor) -> list[dict[str, Tensor]]:
    """Sums of snapshots, each read once; buffers are those of the last. Takes 8 bytes a weight and a sum.

    Args:
        snapshots: Of one network.
        shares: Of each in each sum, (n, sums) float64.

    Returns:
        The tensors of each sum, by name, in the training's dtypes.
    """
    sums: list[dict[str, Tensor]] = [{} for _ in range(shares.shape[1])]
    for snapshot, row in zip(snapshots, shares.tolist(), strict=True):
        tensors = snapshot.read()
        for found, share in zip(sums, row, strict=True):
            for name in snapshot.averaged:
                value = tensors[name].double() * share
                found[name] = found[name].add_(value) if name in found else value
    last = snapshots[-1]
    buffers = {name: value for name, value in tensors.items() if name not in last.averaged}
    return [
        {**{name: found[name].to(getattr(torch, dtype)) for name, dtype in last.averaged.items()}, **buffers}
        for found in sums
    ]
