"""Checkpoints: whole or not there.

A checkpoint is a folder of safetensors files and one JSON file. It is written aside and flushed; a manifest with the
sha256 of every file is written last; then the folder is renamed into place. No pickle is ever written or read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...registry import UserError
from ..console import log

MANIFEST = "manifest.json"
Tensors = Mapping[str, Tensor]


class DamagedCheckpoint(Exception):
    """A checkpoint whose files are not those that were written; the text names the file."""


@dataclass(frozen=True)
class Checkpoint:
    """What one holds.

    Attributes:
        path: Its folder.
        step: Optimizer steps taken.
        tensors: Named groups of tensors: model, ema, optimizer.
        facts: Plain JSON: counters, the optimizer's settings, states of hooks.
    """

    path: Path
    step: int
    tensors: Mapping[str, Tensors]
    facts: dict[str, Any]


def save(folder: Path, step: int, tensors: Mapping[str, Tensors], facts: Mapping[str, Any], keep: int) -> Path:
    """Write the checkpoint of ``step`` and drop all but the newest ``keep``.

    Returns:
        Its folder.
    """
    target = place(folder, step)
    if target.exists():  # same step, same weights: written before a crash, or by a run that went nowhere
        discard(target)
    aside = folder / f".tmp-{step:08d}-{os.getpid()}"
    aside.mkdir()
    aliases: dict[str, dict[str, str]] = {}
    for name, group in tensors.items():
        aliases[name] = _aliases(group)
        kept = {k: v.detach().cpu().contiguous() for k, v in group.items() if k not in aliases[name]}
        save_file(kept, aside / f"{name}.safetensors")
    state = json.dumps({"step": step, "aliases": aliases, **facts}, indent=1)
    (aside / "state.json").write_text(state, encoding="utf-8")
    _seal(aside)
    os.rename(aside, target)
    _flush(folder)
    for old in _steps(folder)[:-keep]:
        discard(old)
    return target


def place(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is, or would be."""
    return folder / f"step-{step:08d}"


def steps(folder: Path) -> list[int]:
    """The steps that have a checkpoint, in order."""
    return [int(path.name.removeprefix("step-")) for path in _steps(folder)]


def newest(folder: Path, groups: tuple[str, ...] | None = None) -> Checkpoint | None:
    """The newest checkpoint that is whole; damaged ones are named and passed over.

    Args:
        folder: Of checkpoints.
        groups: The tensors to read; None is all.
    """
    for path in reversed(_steps(folder)):
        try:
            return load(path, groups)
        except DamagedCheckpoint as error:
            log.warning("%s; it is passed over", error)
    return None


def settle(folder: Path) -> None:
    """Make a folder of checkpoints ready to go on with: half-written ones are removed, damaged ones set aside.

    A damaged checkpoint that stayed would count among those that are kept, and push a whole one out.

    Raises:
        UserError: There are checkpoints, and none is whole.
    """
    for left in folder.glob(".tmp-*"):
        shutil.rmtree(left)
    whole, there = newest(folder, groups=()), _steps(folder)
    if there and whole is None:
        raise UserError(
            f"none of the checkpoints in {folder} is whole ({', '.join(path.name for path in there)}); "
            "bring one back from a copy, or start afresh with --fresh (the old folder is kept aside)"
        )
    for path in there:
        if whole is not None and path > whole.path:
            path.rename(path.with_name(f"damaged-{path.name}-{time.time_ns()}"))


def load(path: Path, groups: tuple[str, ...] | None = None, verified: bool = False) -> Checkpoint:
    """Read one checkpoint, checking every file against the manifest unless that has just been done.

    Raises:
        DamagedCheckpoint: Naming the file.
    """
    try:
        digests: dict[str, str] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedCheckpoint(f"checkpoint {path} has no readable {MANIFEST}: {error}") from None
    for name, digest in ({} if verified else digests).items():
        _verify(path / name, digest)
    try:
        facts = json.loads((path / "state.json").read_text(encoding="utf-8"))
        names = (
            groups
            if groups is not None
            else tuple(n.removesuffix(".safetensors") for n in digests if n != "state.json")
        )
        tensors = {name: _with_aliases(path, name, facts["aliases"].get(name, {})) for name in names}
    except (OSError, ValueError, SafetensorError) as error:
        raise DamagedCheckpoint(f"checkpoint {path} cannot be read: {error}") from None
    return Checkpoint(path, facts["step"], tensors, facts)


def _aliases(group: Tensors) -> dict[str, str]:
    """Second names of tensors that are one in memory (tied weights), with the first: safetensors holds each once."""
    first: dict[tuple[int, torch.Size, tuple[int, ...]], str] = {}
    seconds = {}
    for name, value in group.items():
        place = (value.data_ptr(), value.shape, value.stride())
        if value.numel() and first.setdefault(place, name) != name:
            seconds[name] = first[place]
    return seconds


def _with_aliases(path: Path, name: str, aliases: Mapping[str, str]) -> dict[str, Tensor]:
    tensors = load_file(path / f"{name}.safetensors")
    return {**tensors, **{second: tensors[first] for second, first in aliases.items()}}


def _steps(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def discard(path: Path) -> None:
    """Remove a checkpoint, never leaving half of one under its name."""
    aside = path.with_name(f".tmp-old-{path.name}-{os.getpid()}")
    os.rename(path, aside)
    shutil.rmtree(aside)


def _seal(path: Path) -> None:
    """Flush every file, and write the manifest last."""
    digests = {}
    for file in sorted(path.iterdir()):
        digests[file.name] = _sha256(file)
        _flush(file)
    manifest = path / MANIFEST
    manifest.write_text(json.dumps(digests, indent=1), encoding="utf-8")
    _flush(manifest)
    _flush(path)


def _verify(file: Path, digest: str) -> None:
    try:
        found = _sha256(file)
    except OSError as error:
        raise DamagedCheckpoint(f"checkpoint {file.parent} lacks {file.name}: {error.strerror}") from None
    if found != digest:
        raise DamagedCheckpoint(
            f"checkpoint {file.parent} is damaged: {file.name} has sha256 {found[:12]}, not {digest[:12]}"
        )


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
