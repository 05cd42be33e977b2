"""A run while a process works on it: recipe, folder, ranks, hooks, history. What hooks see as ``run``."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..core import Way
from ..files.writing import read_json, write_json, write_text
from ..registry import HookCaller, Recipe, UserError
from ..registry.hooks import Task
from . import checkpoints
from .assemble import part
from .console import log, log_to
from .evaluation.during import is_due
from .evaluation.results import Results
from .folder import RunFolder
from .journal import Journal
from .same_run import check_same, recipe_so_far
from .signals import Interrupted, Signals
from .world import World


class Session:
    """See `open_session`.

    Attributes:
        name: The run's.
        folder: Its folder.
        files: What lies where in it.
        recipe: Resolved.
        facts: Versions, commit, data fingerprint, number of parameters.
        saved: The newest whole checkpoint, its tensors not yet read; None for a fresh run.
        start_step: Its step, where this process begins; 0 for a fresh run.
        same_data: Whether the recipe names its data as the run's own recipe does.
        stretch: Whether the learning rate's decay is laid out anew, for the recipe's number of steps.
        world: The ranks.
        signals: Ctrl-C and SIGTERM.
        hooks: Of rank 0; no hooks elsewhere.
        task: What hooks read of it: this is the run itself.
        parent: What hooks read of it: it is a part of no other run.
    """

    task: Task = "train"
    parent: Path | None = None

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        world: World,
        signals: Signals,
        same_data: bool,
        stretch: bool = False,
        start: int | None = None,
    ) -> None:
        self.recipe, self.files, self.world, self.signals = recipe, folder, world, signals
        self.same_data, self.stretch = same_data, stretch
        place = None if start is None else checkpoints.place(folder.checkpoints, start)
        self.saved = None if place is None else checkpoints.load(place, (), verified=True)  # by rank 0, as it took it
        self.start_step = self.saved.step if self.saved else 0
        self.facts: dict[str, str] = read_json(folder.facts) or {}
        hooks = world.first_only(lambda: [part("hook", ref) for ref in recipe.hooks])
        self.hooks = HookCaller(hooks or [], log.warning, [ref.name for ref in recipe.hooks] if hooks else [])
        start_step, first = self.start_step, world.first
        self._journal = Journal(folder.history, start_step, "values", "draws") if first else None
        self._evaluations = Journal(folder.evaluations, start_step, "results") if first else None

    @property
    def name(self) -> str:
        """The run's name."""
        return self.recipe.name

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.files.path

    def describe(self, facts: Mapping[str, str], files: Mapping[str, str]) -> None:
        """Write what is known of the run, and tell the hooks that it starts."""
        self.facts = dict(facts)
        if not self.world.first:
            return
        write_text(self.files.recipe, self._as_trained().to_yaml())
        write_json(self.files.facts, self.facts)
        for name, text in files.items():
            write_text(self.folder / name, text)
        self.hooks.call("dmf_run_started", run=self)
        for name in ("recipe.yaml", "facts.json", *files):
            self.wrote(self.folder / name)

    def _as_trained(self) -> Recipe:
        """The recipe, never with fewer steps than were trained: run again, it gives these weights."""
        train = self.recipe.train
        return replace(self.recipe, train=replace(train, steps=max(train.steps, self.start_step)))

    def check_data(self, fingerprint: str) -> None:
        """Accept the data to go on with.

        Raises:
            UserError: It is not what the run was trained on so far.
        """
        before = self.facts.get("dataset.fingerprint", fingerprint)
        if self.start_step and before != fingerprint:
            raise UserError(
                f"{self.folder} was trained on other data: fingerprint {before[:16]} then, {fingerprint[:16]} now. "
                "Bring the old data back, give the new run a name of its own (name=...), or start afresh with --fresh"
            )

    def logged(self, step: int, values: Mapping[str, float], draws: Mapping[str, str]) -> str | None:
        """Write a point of the history; the name of a hook that asks to stop, agreed by all ranks.

        Args:
            step: Steps taken.
            values: Of the steps since the last point.
            draws: Checksums of what the last step was given.
        """
        stop = None
        if self._journal is not None:
            self._journal.write(step, values=values, draws=draws)
            self.hooks.call("dmf_logged", run=self, step=step, values=values)
            stop = self.hooks.should_stop(self, step, {**values, **self._newest_scores()})
        agreed: str | None = self.world.tell(stop)
        return agreed

    def evaluated(
        self, step: int, results: Results, failed: str | None = None, better: Mapping[str, Way] | None = None
    ) -> None:
        """Write the values of an evaluation while training goes on, and tell the hooks of them.

        Args:
            step: The training step.
            results: The values; none where all of it failed.
            failed: Why some, or all, are missing.
            better: Which way values are better.
        """
        if self._evaluations is None:
            return
        why = ({"better": dict(better or {})} if results else {}) | ({} if failed is None else {"failed": failed})
        seen = step * self.recipe.train.batch_size
        self._evaluations.write(step, images_seen=seen, results=results, **why)
        if results:
            self.hooks.call("dmf_metrics", run=self, step=step, results=results)

    @property
    def evaluated_step(self) -> int:
        """The step of the newest evaluation while training went on, 0 without any; on rank 0."""
        last = self._evaluations.last if self._evaluations is not None else None
        return last["step"] if last else 0

    def _newest_scores(self) -> dict[str, float]:
        """What `evaluated` wrote last, for hooks that stop a training by it."""
        last = self._evaluations.last if self._evaluations is not None else None
        if not last or not last["results"]:
            return {}
        values = {f"eval/{name}": math.nan if r["value"] is None else r["value"] for name, r in last["results"].items()}
        return {**values, "eval/step": float(last["step"])}

    @property
    def better(self) -> dict[str, Way]:
        """Which way the newest scores are better, by the names that hooks know them by."""
        last = self._evaluations.last if self._evaluations is not None else None
        return {f"eval/{name}": way for name, way in (last or {}).get("better", {}).items()}

    def check_stop(self) -> None:
        """Leave on all ranks, if one of them was asked to stop: between two parts of the set-up.

        Raises:
            Interrupted: By that signal.
        """
        asked = torch.tensor(self.signals.requested, device=self.world.device)
        if signum := int(self.world.max(asked)):
            raise Interrupted(signum)

    def wrote(self, path: Path) -> None:
        """Tell the hooks of a finished file."""
        self.hooks.call("dmf_file_written", run=self, path=path)

    def phase(self, name: str) -> Any:
        """What `finish` noted of a phase, or None."""
        return (read_json(self.files.done) or {}).get(name)

    def finish(self, name: str, note: Any) -> None:
        """Note that a phase is done, and of what."""
        if self.world.first:
            write_json(self.files.done, {**(read_json(self.files.done) or {}), name: note})

    def stopped_early(self, step: int) -> None:
        """Note that a hook ends the training: with the checkpoint of this step, which may come after, it is done."""
        self.finish("stopped", {"step": step, "of": self.recipe.train.steps})

    def forget_later_stop(self) -> None:
        """Take such a note back whose checkpoint never came: the training may pass that step in another way."""
        note = self.phase("stopped") if self.world.first else None
        if note is not None and note["step"] > self.start_step:
            self.finish("stopped", None)

    @property
    def is_stopped(self) -> bool:
        """Whether a hook ended the training at the newest checkpoint; the same on every rank."""
        note = {"step": self.start_step, "of": self.recipe.train.steps}
        stopped: bool = self.world.tell(self.phase("stopped") == note if self.world.first else None)
        return stopped

    def horizon(self, saved: int) -> int:
        """Images that the learning rate's decay is laid out for from here on.

        Stretching is noted on disk, for a process that is killed before it has written a checkpoint of its own: run
        again, it goes on with the same rates.

        Args:
            saved: What the checkpoint says, with which the run goes on.
        """
        if self.stretch:
            train = self.recipe.train
            self.finish("stretched", {"from": self.start_step, "images": train.steps * train.batch_size})
        note = self.world.tell(self.phase("stretched") if self.world.first else None)
        return int(note["images"]) if note and note["from"] == self.start_step else saved

    @property
    def trained(self) -> bool:
        """Whether the newest checkpoint is the last one of this recipe, and nothing is missing that comes after it."""
        steps = self.recipe.train.steps
        unscored = is_due(self.recipe, self.start_step) and self.evaluated_step != self.start_step
        if self.world.tell(unscored) and self.phase("sample") is None:
            return False  # stopped between the last checkpoint and its scores
        return self.start_step >= steps or self.is_stopped

    def close(self) -> None:
        """Close files."""
        for journal in (self._journal, self._evaluations):
            if journal is not None:
                journal.close()


def _take(folder: RunFolder, recipe: Recipe) -> tuple[Recipe | None, int | None]:
    """Hold the folder; the recipe of the run that is there, and the step of its newest checkpoint that is whole.

    Returns:
        None for what is not there: nothing has been trained.

    Raises:
        UserError: The folder is in use, holds a run of another recipe or of none that is known, or no whole checkpoint;
            or one of its files is damaged.
    """
    folder.hold()
    for file in (folder.facts, folder.done):
        read_json(file)  # before the ranks go on alone
    whole = checkpoints.settle(folder.checkpoints)  # reads and hashes all of it, which takes its time: once is enough
    step = None if whole is None else whole.step
    if step is None:
        return None, None
    old = recipe_so_far(folder.recipe, step)
    check_same(old, recipe, folder.path)
    return old, step


@contextlib.contextmanager
def open_session(recipe: Recipe, runs: Path, world: World, stretch: bool = False) -> Iterator[Session]:
    """The session of a recipe's run: signals, folder, log, hooks; hooks hear of every end.

    Args:
        recipe: Resolved.
        runs: The folder of runs.
        world: The ranks.
        stretch: Lay the learning rate's decay out anew, for the recipe's number of steps.
    """
    with Signals(world.first) as signals, contextlib.ExitStack() as after:
        folder = RunFolder(runs / recipe.name)
        after.callback(folder.release)
        old, step = world.tell(world.first_only(lambda: _take(folder, recipe)))
        if world.first:
            signals.asked = folder.heed
            after.enter_context(log_to(folder.log, folder.recipe.exists))
        same_data = old is None or old.dataset == recipe.dataset
        session = Session(recipe, folder, world, signals, same_data, stretch, step)
        after.callback(session.close)
        try:
            yield session
        except BaseException as error:
            session.hooks.call("dmf_run_ended", run=session, error=error)
            raise
        else:
            session.hooks.call("dmf_run_ended", run=session, error=None)
