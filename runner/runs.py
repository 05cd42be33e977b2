"""Finding a run by its folder or its name, one of its checkpoints by RUN@STEP, and what is asked of it first."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..files.words import few
from ..registry.errors import UserError
from ..registry.words import did_you_mean

if TYPE_CHECKING:
    from ..core import DataSpec
    from ..registry import Recipe
    from .folder import RunFolder

MOST_LISTED = 20
BEST: Final = "best"
PLACES = ("dataset", "loading", "codec", "compute", "device", "distributed", "hooks")
AFTER_TRAINING = ("sampler", "sample", "evaluate", *PLACES)
AT = re.compile(rf"(?P<run>.+)@(?P<at>\d+|{BEST})")


def find_run(given: str, runs: Path) -> RunFolder:
    """The folder of a run.

    Args:
        given: A path, or a name under ``runs``.
        runs: The folder of runs.

    Raises:
        UserError: No such run; the message names those there are.
    """
    from .folder import RunFolder

    for path in (Path(given), runs / given):
        if (path / "recipe.yaml").is_file():
            return RunFolder(path)
    raise UserError(f"{given} is no run: no recipe.yaml there, nor in {runs / given}{runs_there(given, runs)}")


def find_checkpoint(given: str, runs: Path) -> tuple[RunFolder, int | None]:
    """The folder of a run and a step of it: that of RUN@STEP, of the best checkpoint for RUN@best; None is the newest.

    Args:
        given: As `find_run`, or with @STEP or @best behind it; a run whose name ends like that comes first.
        runs: The folder of runs.

    Raises:
        UserError: No such run, or none of its checkpoints is the best.
    """
    name, at = split(given, runs)
    folder = find_run(name, runs)
    return folder, step_of(folder, at)


def split(given: str, runs: Path) -> tuple[str, str | None]:
    """A run's name, and what stands behind its @: the digits of a step, ``best``, or nothing.

    Args:
        given: What was written.
        runs: The folder of runs.
    """
    parsed = AT.fullmatch(given)
    return (given, None) if parsed is None or _is_run(given, runs) else (parsed["run"], parsed["at"])


def names_run(given: str, runs: Path) -> bool:
    """Whether there is a run of that name or folder, also with @STEP or @best behind it.

    Args:
        given: Any word of a command line.
        runs: The folder of runs.
    """
    return _is_run(split(given, runs)[0], runs)


def _is_run(name: str, runs: Path) -> bool:
    # os.path: a word may be longer than names can be
    return any(os.path.isfile(path / "recipe.yaml") for path in (Path(name), runs / name))


def step_of(folder: RunFolder, at: str | int | None) -> int | None:
    """The step that stands behind the @ of a run; None is the newest.

    Args:
        folder: The run's.
        at: As `split` has it, or the step itself.

    Raises:
        UserError: The best is wanted, and there is none.
    """
    from . import checkpoints

    if at != BEST:
        return None if at is None else int(at)
    step = checkpoints.best_step(folder.checkpoints)
    if step is None:
        there = ", ".join(map(str, checkpoints.steps(folder.checkpoints))) or "none"
        raise UserError(
            f"@{BEST}: {folder.path} has no best checkpoint: write checkpoint.best, the name of a value, into the "
            f"recipe before it is trained, or name a step behind the @, of {there}"
        )
    return step


def recipe_of(folder: RunFolder, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a run, with other settings of how images are made and scored.

    Args:
        folder: The run's.
        overrides: ``key=value``, as `read` has them.

    Raises:
        UserError: They change what the network was trained with, or what has no part in that.
    """
    from ..registry import read
    from ..registry.recipe import unequal

    new = read(folder.recipe, overrides)
    changed = {key.partition(".")[0] for key in unequal([read(folder.recipe), new])} if overrides else set()
    if fixed := changed.difference(AFTER_TRAINING):
        words = [word.strip() for word in overrides if re.split(r"[.=]", word)[0].strip() in fixed]
        raise UserError(
            f"{', '.join(words)}: {folder.path} is trained, and what it was trained with stays; what may be changed "
            f"here is {', '.join(AFTER_TRAINING)}"
        )
    return new


def is_trained(folder: RunFolder, step: int, steps: int) -> bool:
    """Whether a training is over: it has come to its end, or a hook has ended it.

    Args:
        folder: The run's.
        step: Of its newest checkpoint; 0 without any.
        steps: That its recipe wants.
    """
    from ..files.writing import read_json

    return step >= steps or (read_json(folder.done) or {}).get("stopped") == {"step": step, "of": steps}


def runs_there(given: str, runs: Path) -> str:
    """What a message about a run that is not there ends with: the nearest name, and the runs there are.

    Args:
        given: What was asked for.
        runs: The folder of runs.
    """
    there = sorted(path.parent.name for path in runs.glob("*/recipe.yaml"))
    listed = f"runs in {runs}: {few(there, most=MOST_LISTED)}" if there else f"there are no runs in {runs}"
    return f"{did_you_mean(given, there)}; {listed}"


def weights_of(wanted: str | None, recipe: Recipe) -> str:
    """Which weights to load: those that were asked for, the first average by default.

    Raises:
        UserError: Averaged ones that the run does not keep.
    """
    if wanted == "ema" and not recipe.train.ema:
        raise UserError(
            "--weights ema: this run keeps no average of its weights (train.ema is empty); leave the flag out"
        )
    return wanted or "ema"


def spec_of(folder: RunFolder) -> DataSpec:
    """What the run's data is like, without the data.

    Raises:
        UserError: The run never began, or its file is lost or damaged.
    """
    from ..files.writing import read_json
    from . import checkpoints
    from .assemble import spec_from_dict

    held = read_json(folder.spec, shape=list, classes=list, cond=dict)
    if held is None and checkpoints.steps(folder.checkpoints):
        raise UserError(
            f"{folder.spec} is not there: bring it back from a copy, or from another run on the same data, where it is "
            "the same"
        )
    if held is None:
        raise UserError(f"{folder.path} was never trained; train first: dmf train {folder.recipe}")
    return spec_from_dict(held)
