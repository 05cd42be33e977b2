"""The folder of a run: what lies where, and that only one run writes in it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TextIO

from ..files.writing import set_aside
from ..registry import UserError


class RunFolder:
    """`runs/<name>/`.

    Attributes:
        path: The folder.
        recipe: The resolved recipe.
        checkpoints: One folder a checkpoint.
        samples: Pictures.
        metrics: The results of the evaluation.
        history: A line per logged step.
        evaluations: A line per evaluation while training went on.
        log: What the screen said.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.yaml"
        self.facts = path / "facts.json"
        self.spec = path / "spec.json"
        self.examples = path / "examples.safetensors"
        self.done = path / "done.json"
        self.checkpoints = path / "checkpoints"
        self.samples = path / "samples"
        self.metrics = path / "metrics.json"
        self.history = path / "history.jsonl"
        self.evaluations = path / "evaluations.jsonl"
        self.log = path / "log.txt"
        self._lock: TextIO | None = None

    @property
    def recipe_as_trained(self) -> Path:
        """The recipe as it was before the best setting of a sweep was written into it."""
        first = self.path / "recipe.1.yaml"
        return first if first.exists() else self.recipe

    def hold(self) -> None:
        """Make the folder, and be its only writer until the process ends, however it ends.

        Raises:
            UserError: Another process holds it, or nothing can be written there.
        """
        try:
            self.samples.mkdir(parents=True, exist_ok=True)
            self.checkpoints.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.path} cannot be made or written: {error.strerror}; choose another --runs") from None
        self._lock = open(self.path / ".lock", "a+", encoding="utf-8")  # noqa: SIM115 - held as long as the run
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.seek(0)
            raise UserError(
                f"{self.path} is in use by another dmf process (pid {self._lock.read().strip() or 'unknown'}); "
                "wait for it, stop it, or give this run another name: name=..."
            ) from None
        self._lock.truncate(0)
        self._lock.write(f"{os.getpid()}\n")
        self._lock.flush()

    def release(self) -> None:
        """Let others write."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def set_aside(self) -> Path | None:
        """Rename the folder, so that a new run can start; nothing is lost."""
        return set_aside(self.path)
