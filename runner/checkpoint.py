"""Checkpoints: whole or not there.

A checkpoint is a folder of safetensors files and one JSON file. It is written aside and flushed; a manifest with the
sha256 of every file is written last; then the folder is renamed into place. No pickle is ever written or read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .console import log

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
    target = folder / f"step-{step:08d}"
    if target.exists():  # same step, same weights: written before a crash, or by a run that went nowhere
        _discard(target)
    aside = folder / f".tmp-{step:08d}-{os.getpid()}"
    aside.mkdir()
    for name, group in tensors.items():
        save_file(
            {key: value.detach().cpu().contiguous() for key, value in group.items()}, aside / f"{name}.safetensors"
        )
    (aside / "state.json").write_text(json.dumps({"step": step, **facts}, indent=1), encoding="utf-8")
    _seal(aside)
    os.rename(aside, target)
    _flush(folder)
    for old in _steps(folder)[:-keep]:
        _discard(old)
    return target


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
            log.warning("%s; the checkpoint before it is used", error)
    return None


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
        tensors = {name: load_file(path / f"{name}.safetensors") for name in names}
    except (OSError, ValueError, SafetensorError) as error:
        raise DamagedCheckpoint(f"checkpoint {path} cannot be read: {error}") from None
    return Checkpoint(path, facts["step"], tensors, facts)


def sweep(folder: Path) -> None:
    """Remove what a killed process left half-written."""
    for left in folder.glob(".tmp-*"):
        shutil.rmtree(left)


def _steps(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def _discard(path: Path) -> None:
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
