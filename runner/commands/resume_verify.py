"""`dmf resume verify`: a recipe's training, killed in the middle and resumed, held against one that was not."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from ...registry.errors import UserError
from ..launching import add_launch
from ..signals import Interrupted, Signals
from .going_on import add_going_on

if TYPE_CHECKING:
    from ...registry import Recipe
    from ..exactness import Finding

DEFAULT_STEPS, FEWEST_STEPS = 30, 4
LOOKED_EVERY_S = 0.002


def verify(args: argparse.Namespace) -> int:
    """Run the command: 0 where all is as it must be, 1 where not."""
    from ..console import start_console

    start_console(0)
    _check_flags(args)
    steps = args.steps or DEFAULT_STEPS
    if steps < FEWEST_STEPS or len(args.words) < 2:
        raise UserError(f"dmf resume verify RUN [--steps N]: a run or a recipe, and at least {FEWEST_STEPS} steps")
    source, recipe = _recipe(args)
    with scratch_folder() as scratch:
        trial = Trial(source, (*args.words[2:], *_start_of(recipe, args.runs)), recipe, steps, scratch.path)
        good = _told(trial.killed())
        if args.ranks is not None:
            good = _told(trial.on_other_ranks(args.ranks)) and good
        scratch.kept = not good
    if not good:
        print(f"{_advice()}\nthe runs are kept in {scratch.path}")
    return 0 if good else 1


class TrainingFailed(UserError):
    """One of the trainings; they are kept, to be looked at."""


@dataclass
class Scratch:
    """Where trainings lie.

    Attributes:
        path: The folder.
        kept: Whether it stays.
    """

    path: Path
    kept: bool = False


@contextlib.contextmanager
def scratch_folder() -> Iterator[Scratch]:
    """A new folder, gone in the end, however it comes, unless it is to be kept."""
    with Signals(heard=False) as signals:
        signals.at_once = True
        scratch = Scratch(Path(tempfile.mkdtemp(prefix="dmf-verify-")))
        try:
            yield scratch
        except TrainingFailed:
            scratch.kept = True
            raise
        except Interrupted:
            print(f"stopped; the trainings in {scratch.path} are removed", file=sys.stderr)
            raise
        finally:
            signals.at_once = False
            if not scratch.kept:
                shutil.rmtree(scratch.path)


@dataclass(frozen=True)
class Trial:
    """Trainings of one recipe in a scratch folder.

    Attributes:
        source: The recipe's file.
        overrides: Of the command line.
        recipe: What they make.
        steps: To train.
        runs: The scratch folder.
    """

    source: str
    overrides: tuple[str, ...]
    recipe: Recipe
    steps: int
    runs: Path

    def killed(self) -> list[Finding]:
        """Train straight, and once more killed with -9 half of the way and resumed; compare bit for bit."""
        from ..exactness import bit_for_bit

        self._train("straight", 1, f"{self.steps} steps straight through")
        step = self._broken("killed", kill_tree, f"{self.steps} steps again, to be killed with -9 in the middle")
        self._train("killed", 1, f"on from the last checkpoint, as {step} steps were logged")
        print(f"killed with -9 after step {step} of {self.steps}, and resumed:")
        return bit_for_bit(self.runs / "straight", self.runs / "killed", self.steps)

    def on_other_ranks(self, ranks: int) -> list[Finding]:
        """Train half of the way on one rank, and on with another number; compare to rounding."""
        from ..exactness import to_rounding

        end = "to be stopped in the middle by SIGTERM"
        step = self._broken("moved", lambda pid: os.kill(pid, signal.SIGTERM), f"{self.steps} steps again, {end}")
        self._train("moved", ranks, f"on from step {step}, on {ranks} ranks")
        print(f"stopped after step {step} of {self.steps} on one rank, and resumed on {ranks}:")
        why = "the network's own dropout depends on the rank" if drops_out(self.recipe) else ""
        straight = self.runs / "straight"
        tf32 = self.recipe.compute.tf32 is not False and is_on_gpu(straight)
        return to_rounding(straight, self.runs / "moved", self.steps, losses_differ=why, tf32=tf32)

    def _train(self, name: str, ranks: int, what: str) -> None:
        """To the end.

        Raises:
            TrainingFailed: Its own message has been shown.
        """
        with self._started(name, ranks, what) as process:
            out, err = process.communicate()
        if process.returncode:
            raise self._failed(process.returncode, err or out)

    def _broken(self, name: str, end: Callable[[int], None], what: str) -> int:
        """Train half of the way; the step that was logged last.

        Raises:
            UserError: It was over before it could be ended.
            TrainingFailed: It ended by itself; its own message has been shown.
        """
        from ..exactness import points

        history = self.runs / name / "history.jsonl"
        with self._started(name, 1, what) as process:
            while _lines(history) < self.steps // 2 and process.poll() is None:
                time.sleep(LOOKED_EVERY_S)
            if process.poll() is None:
                end(process.pid)
            out, err = process.communicate()
        if process.returncode == 0:
            raise UserError(f"all {self.steps} steps were over before the middle was seen; take more: --steps")
        if process.returncode not in (-signal.SIGKILL, 128 + signal.SIGTERM):
            raise self._failed(process.returncode, err or out)
        step: int = points(self.runs / name)[-1]["step"]
        return step

    def _failed(self, code: int, said: str) -> TrainingFailed:
        sys.stderr.write(said)
        return TrainingFailed(f"the training itself failed (exit code {code}); see above, and {self.runs}")

    @contextlib.contextmanager
    def _started(self, name: str, ranks: int, what: str) -> Iterator[subprocess.Popen[str]]:
        """A training, said so; ended at once if this command is."""
        print(f"training {what}, in {self.runs / name}", flush=True)
        process = self._start(name, ranks)
        try:
            yield process
        except BaseException:
            kill_tree(process.pid)
            process.communicate()
            raise

    def _start(self, name: str, ranks: int) -> subprocess.Popen[str]:
        from ..launching.launch import RANK

        words = [
            *self.overrides,
            f"name={name}",
            f"train.steps={self.steps}",
            f"checkpoint={{every: {max(self.steps // 5, 1)}, asynchronous: {self.recipe.checkpoint.asynchronous}}}",
            "log.every=1",
            "hooks=[]",
            "preview.every=0",
            "evaluate={images: 0}",
        ]
        where = ["--runs", str(self.runs), "--ranks", str(ranks)]
        command = [sys.executable, "-c", RANK, "train", self.source, *words, *where]
        return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def kill_tree(pid: int) -> None:
    """-9 for a process and all below it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        for process in [top, *top.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def is_on_gpu(run: Path) -> bool:
    """Whether a run was trained on one."""
    from ...files.writing import read_json
    from ..folder import RunFolder

    facts = read_json(RunFolder(run).facts) or {}
    return bool(facts.get("machine.device", "cpu") != "cpu")


def drops_out(recipe: Recipe) -> bool:
    """Whether the network drops units of its own."""
    return any("dropout" in name and value for name, value in recipe.backbone.options.items())


def _check_flags(args: argparse.Namespace) -> None:
    """Refuse flags of `dmf resume` that the trial has no use for.

    Raises:
        UserError: Naming them.
    """
    parser = argparse.ArgumentParser()
    add_going_on(parser)
    add_launch(parser)
    others = {name: value for name, value in vars(parser.parse_args([])).items() if name != "ranks"}
    given = [f"--{name.replace('_', '-')}" for name, value in others.items() if getattr(args, name) != value]
    if given:
        raise UserError(f"dmf resume verify takes --steps, --ranks and --runs; leave {', '.join(given)} out")


def _recipe(args: argparse.Namespace) -> tuple[str, Recipe]:
    """The recipe's file, or shipped name, and the recipe: of a run, or a recipe itself."""
    from ...registry import read
    from ...registry.shipped import shipped
    from ..runs import find_run

    given = args.words[1]
    source = given if Path(given).is_file() or given in shipped() else str(find_run(given, args.runs).recipe)
    return source, read(source, args.words[2:])


def _start_of(recipe: Recipe, runs: Path) -> list[str]:
    """Where the training starts from, by a path that holds in the scratch folder too; a name of a run does not."""
    from ..training.sources import is_named

    source = recipe.init_from.source if recipe.init_from else None
    if source is None or not is_named(source, runs):
        return []
    return [f"init_from.source={(runs / source).absolute()}"]


def _told(findings: list[Finding]) -> bool:
    """Show a table; whether all is good."""
    for one in findings:
        print(f"  {'ok ' if one.good else 'NO '} {one.what:<22} {one.told}")
    return all(one.good for one in findings)


def _advice() -> str:
    return (
        "not exact. On a GPU write compute.deterministic: true (docs/speed.md says what it costs). On a CPU a part of "
        "the recipe keeps state, or draws random numbers, of its own: see docs/resume.md"
    )


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
