"""Reading checkpoints, each file checked against the manifest first."""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from ...core.shards import placed_like
from ...files.words import a_line_each
from ...registry import UserError
from ..console import log
from .keeping import best_step
from .layout import (
    STATE,
    DamagedCheckpoint,
    Tensors,
    digests_of,
    file_of,
    groups_in,
    paths,
    place,
    sweep,
    verify,
)


@dataclass(frozen=True)
class Checkpoint:
    """What one holds.

    Attributes:
        path: Its folder.
        step: Optimizer steps taken.
        tensors: Named groups of tensors: model, ema, optimizer; whole, on the CPU.
        facts: Plain JSON: counters, the optimizer's settings, states of hooks.
    """

    path: Path
    step: int
    tensors: Mapping[str, Tensors]
    facts: dict[str, Any]


def newest(folder: Path, groups: Sequence[str] | None = None) -> Checkpoint | None:
    """The newest checkpoint that is whole; damaged ones are named and passed over.

    Args:
        folder: Of checkpoints.
        groups: The tensors to read; None is all.
    """
    for path in reversed(paths(folder)):
        try:
            return load(path, groups)
        except DamagedCheckpoint as error:
            log.warning("%s; it is passed over", error)
    return None


def settle(folder: Path) -> Checkpoint | None:
    """Make a folder of checkpoints ready to go on with: half-written ones are removed, damaged ones set aside.

    A damaged checkpoint that stayed would count among those that are kept, and push a whole one out.

    Returns:
        The newest that is whole, its tensors not read; None where there is none at all.

    Raises:
        UserError: There are checkpoints, and none is whole; or what points to the best one is damaged.
    """
    sweep(folder)
    whole, there = newest(folder, groups=()), paths(folder)
    if there and whole is None:
        raise UserError(
            f"none of the checkpoints in {folder} is whole ({', '.join(path.name for path in there)}); "
            "bring one back from a copy, or start afresh with --fresh (the old folder is kept aside)"
        )
    for path in [] if whole is None else there[there.index(whole.path) + 1 :]:
        path.rename(path.with_name(f"damaged-{path.name}-{time.time_ns()}"))
    best_step(folder)  # here, and not when the first of the training is written
    return whole


def load(path: Path, groups: Sequence[str] | None = None, verified: bool = False) -> Checkpoint:
    """Read one checkpoint, of any number of ranks, checking every file unless that has just been done.

    Args:
        path: Its folder.
        groups: The tensors to read; None is all.
        verified: Whether its files are known to be those that were written.

    Raises:
        DamagedCheckpoint: Naming the file.
    """
    if not verified:
        verify(path)
    names = groups_in(path) if groups is None else groups
    facts = _facts(path)
    if path.name != place(path.parent, facts["step"]).name:
        raise DamagedCheckpoint(f"checkpoint {path} is that of step {facts['step']} under another name")
    try:
        tensors = {name: _whole(path, name, facts["aliases"].get(name, {})) for name in names}
    except (OSError, ValueError, SafetensorError) as error:
        raise DamagedCheckpoint(f"checkpoint {path} cannot be read: {error}") from None
    return Checkpoint(path, facts["step"], tensors, facts)


def restore_into(path: Path, group: str, targets: Tensors) -> None:
    """Fill tensors in place from a checkpoint of any number of ranks, whose files are known to be whole.

    Args:
        path: Its folder.
        group: The checkpoint's name for them.
        targets: To fill: whole tensors, or parts (DTensor), of which this rank reads its own.

    Raises:
        UserError: The checkpoint's tensors have other names or shapes; the message names them.
    """
    _check(path, group, targets)
    aliases = _aliases(path, group)
    firsts = {name: value.detach() for name, value in targets.items() if name not in aliases}
    with torch.no_grad():
        if file_of(path, group).exists():
            _fill(file_of(path, group), firsts)
        else:
            from . import shards  # half a second, for those who shard only

            shards.read_into(path / group, firsts)
        for second, first in aliases.items():
            targets[second].detach().copy_(firsts[first])


def identity(path: Path, group: str) -> str:
    """The sha256 of the file that holds a group whole, whatever number of ranks wrote it."""
    digests = digests_of(path)
    whole = digests.get(file_of(path, group).name)
    parts = tuple(sorted(one for name, one in digests.items() if name.startswith(f"{group}/")))
    return whole or _identity_of_parts(path, group, parts)


@functools.lru_cache(maxsize=16)
def _identity_of_parts(path: Path, group: str, parts: tuple[str, ...]) -> str:
    """See `identity`; for the files of these hashes."""
    from . import shards

    return hashlib.sha256(save(shards.read_whole(path / group))).hexdigest()


def shapes_in(path: Path, group: str) -> dict[str, tuple[int, ...]]:
    """The shape of each whole tensor of a group."""
    if file_of(path, group).exists():
        with safe_open(file_of(path, group), framework="pt") as file:
            firsts = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    else:
        from . import shards

        firsts = {name: tuple(shape) for name, (shape, _) in shards.shapes(path / group).items()}
    return {**firsts, **{second: firsts[first] for second, first in _aliases(path, group).items()}}


def _aliases(path: Path, group: str) -> dict[str, str]:
    """Second names of tied tensors, with the first."""
    found: dict[str, str] = _facts(path)["aliases"].get(group, {})
    return found


def _facts(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((path / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedCheckpoint(f"checkpoint {path} cannot be read: {error}") from None
    return found


def _whole(path: Path, group: str, aliases: Mapping[str, str]) -> dict[str, Tensor]:
    if file_of(path, group).exists():
        tensors = load_file(file_of(path, group))
    else:
        from . import shards

        tensors = shards.read_whole(path / group)
    return {**tensors, **{second: tensors[first] for second, first in aliases.items()}}


def _fill(file: Path, targets: Tensors) -> None:
    with safe_open(file, framework="pt") as held:
        for name, target in targets.items():
            whole = held.get_tensor(name)
            target.copy_(placed_like(whole, target))


def _check(path: Path, group: str, targets: Tensors) -> None:
    there = shapes_in(path, group)
    here = {name: tuple(value.shape) for name, value in targets.items()}
    if there != here:
        wrong = [
            f"{name}: {there.get(name, 'missing there')} -> {here.get(name, 'unknown here')}"
            for name in sorted({*there, *here})
            if there.get(name) != here.get(name)
        ]
        raise UserError(
            f"{path}: the tensors of {group} are not those of this training:{a_line_each(wrong)}\n"
            "Go on with the recipe that the run was started with, or start a new run from its weights (init_from)."
        )
