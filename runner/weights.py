"""The trained weights of a run on disk: which there are, and which file they are in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..registry import UserError
from ..registry.words import did_you_mean
from . import checkpoints
from .average_rules import POSTHOC, named
from .console import log
from .folder import RunFolder

KEPT_GROUP = "weights"
"""What a checkpoint calls an average that is kept by itself."""


@dataclass(frozen=True)
class Weights:
    """Weights whose checkpoint is whole, not yet read.

    Attributes:
        path: The checkpoint.
        kind: ``raw``, ``ema`` (the first average), another average's label, or ``posthoc-`` and a length.
        step: Training steps behind them.
        group: The checkpoint's name for them.
    """

    path: Path
    kind: str
    step: int
    group: str

    @property
    def sha256(self) -> str:
        """Of the file that holds them whole: the same for the same weights, whatever number of ranks wrote them.

        Raises:
            UserError: They are there no more.
        """
        with self._there():
            return checkpoints.identity(self.path, self.group)

    def read(self) -> dict[str, Tensor]:
        """The tensors by name.

        Raises:
            UserError: They are there no more.
        """
        with self._there():
            return dict(checkpoints.load(self.path, (self.group,), verified=True).tensors[self.group])

    @contextlib.contextmanager
    def _there(self) -> Iterator[None]:
        try:
            yield
        except checkpoints.DamagedCheckpoint as error:
            raise UserError(
                f"{error}. Where a training goes on it keeps the newest `checkpoint.keep` checkpoints and removes the "
                "others: give the command again, or name one that stays, as RUN@STEP"
            ) from None


def find_weights(folder: RunFolder, kind: str, step: int | None = None) -> Weights:
    """Weights of a run: for ``ema`` the raw ones, said so, where it keeps no average.

    Args:
        folder: The run's.
        kind: ``raw``, ``ema``, an average's label, or ``posthoc-`` and a length, of those that `dmf ema` made; a
            number in it may be written in any way.
        step: Of a checkpoint; None is the newest.

    Raises:
        UserError: There are none; the message names those there are.
    """
    if kind.startswith(POSTHOC):
        return _made_after(folder, _length(kind), step)
    saved = _newest(folder) if step is None else _of_step(folder, step)
    labels: list[str] = saved.facts["averages"]
    kind = named(kind, labels)
    if kind == "ema" and not labels:
        log.info("%s keeps no average of its weights (train.ema is empty): the raw ones are used", folder.path)
        kind = "raw"
    if kind == "raw":
        return Weights(saved.path, kind, saved.step, "model")
    if kind == "ema" or [kind] == labels[:1]:
        return Weights(saved.path, "ema", saved.step, "ema")
    if kind not in labels:
        raise UserError(f"{folder.path} has no weights called {kind!r}{_those(folder, labels, kind)}")
    return Weights(saved.path, kind, saved.step, f"ema-{kind}")


def made_after(folder: RunFolder) -> list[str]:
    """The averages that were made after the training, by name."""
    there = sorted(path for path in folder.averages.glob(f"{POSTHOC}*") if checkpoints.steps(path))
    return [path.name for path in there]


def _made_after(folder: RunFolder, length: str, step: int | None) -> Weights:
    kind = f"{POSTHOC}{length}"
    home = folder.averages / kind
    there = checkpoints.steps(home)
    if (not there) if step is None else (step not in there):
        of = "" if step is None else f" of step {step}"
        raise UserError(
            f"{folder.path} has no {kind}{of}; it has {', '.join(made_after(folder)) or 'none of that kind'}; "
            f"dmf ema {folder.path}{'' if step is None else f'@{step}'} --length {length} makes it"
        )
    path = checkpoints.place(home, there[-1] if step is None else step)
    try:
        return Weights(path, kind, checkpoints.load(path, ()).step, KEPT_GROUP)
    except checkpoints.DamagedCheckpoint as error:
        raise UserError(f"{error}; make it anew: dmf ema {folder.path} --length {length}") from None


def _length(kind: str) -> str:
    """That of an average made after the training, as its name has it.

    Raises:
        UserError: It is no number.
    """
    text = kind.removeprefix(POSTHOC)
    try:
        return f"{float(text):.15g}"
    except ValueError:
        raise UserError(f"{kind}: after {POSTHOC} stands a length, as in {POSTHOC}0.07; {text!r} is none") from None


def _those(folder: RunFolder, labels: list[str], meant: str) -> str:
    """Those there are, for a message."""
    there = ["raw", *(["ema"] if labels else []), *labels[1:], *made_after(folder)]
    first = f"; ema is {labels[0]}" if labels else ""
    return f"{did_you_mean(meant, there)}; it has {', '.join(there)}{first}"


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
