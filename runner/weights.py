"""The trained weights of a run on disk: which there are, and which file they are in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..registry import UserError
from . import checkpoints
from .console import log
from .folder import RunFolder


@dataclass(frozen=True)
class Weights:
    """Weights whose checkpoint is whole, not yet read.

    Attributes:
        path: The checkpoint.
        kind: ``ema`` or ``raw``: which they are.
        step: Training steps behind them.
    """

    path: Path
    kind: str
    step: int

    @property
    def group(self) -> str:
        """The checkpoint's name for them."""
        return "ema" if self.kind == "ema" else "model"

    @property
    def sha256(self) -> str:
        """Of their file, as the checkpoint's manifest has it."""
        digests: dict[str, str] = json.loads((self.path / checkpoints.MANIFEST).read_text(encoding="utf-8"))
        return digests[f"{self.group}.safetensors"]

    def read(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return dict(checkpoints.load(self.path, (self.group,), verified=True).tensors[self.group])


def find_weights(folder: RunFolder, kind: str, step: int | None = None) -> Weights:
    """Weights of a run: raw ones, said so, where it keeps no average.

    Args:
        folder: The run's.
        kind: ``ema`` or ``raw``.
        step: Of a checkpoint; None is the newest.

    Raises:
        UserError: There are none; the message names those there are.
    """
    saved = _newest(folder) if step is None else _of_step(folder, step)
    if kind == "ema" and not (saved.path / "ema.safetensors").exists():
        log.info("%s keeps no average of its weights (train.ema is empty): the raw ones are used", folder.path)
        kind = "raw"
    return Weights(saved.path, kind, saved.step)


def _newest(folder: RunFolder) -> checkpoints.Checkpoint:
    saved = checkpoints.newest(folder.checkpoints, groups=())
    if saved is None:
        raise UserError(f"{folder.path} has no checkpoint that can be read; train first: dmf train {folder.recipe}")
    return saved


def _of_step(folder: RunFolder, step: int) -> checkpoints.Checkpoint:
    there = checkpoints.steps(folder.checkpoints)
    if step not in there:
        raise UserError(
            f"{folder.path} has no checkpoint of step {step}; it has {', '.join(map(str, there)) or 'none at all'} "
            "(checkpoint.every and checkpoint.keep say which are kept)"
        )
    try:
        return checkpoints.load(checkpoints.place(folder.checkpoints, step), ())
    except checkpoints.DamagedCheckpoint as error:
        raise UserError(f"{error}; take another step of {', '.join(map(str, there))}") from None
