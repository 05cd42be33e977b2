"""`--fresh`: the old folder is kept aside, and has its name back where nothing new begins."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ...registry.errors import UserError
from ..launching import LAUNCHER, launched_by_us

if TYPE_CHECKING:
    from ...registry import Recipe
    from ..folder import RunFolder
    from ..world import World

ASIDE = "DMF_ASIDE"  # in the environment of ranks: a file in which rank 0 notes where the old folder is


def check_fresh() -> None:
    """Refuse to start anew under a launcher that gives the same command again when a rank has died.

    Raises:
        UserError: Saying what to do.
    """
    if os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0" and not launched_by_us():
        raise UserError(
            "--fresh under torchrun --max-restarts would start anew after every restart; rename the old folder, or let "
            "dmf start the ranks: --ranks or --gpus, with --restarts"
        )


def check_start(recipe: Recipe, runs: Path) -> None:
    """Refuse to start anew from weights that are not there, or lie in the folder which is renamed for that.

    Raises:
        UserError: Saying what to do.
    """
    from ..training.sources import place_of

    if recipe.init_from is None:
        return
    if place_of(recipe.init_from, runs).resolve().is_relative_to((runs / recipe.name).resolve()):
        raise UserError(
            f"init_from: {recipe.init_from.source} lies in {runs / recipe.name}, which --fresh renames; leave --fresh "
            "out, and give the new run a name of its own: name=..."
        )


@contextlib.contextmanager
def begun_anew(fresh: bool, folder: RunFolder, world: World) -> Iterator[None]:
    """Around a run: with ``--fresh`` the old folder is renamed, and has its name back where the new run never began.

    Where our launcher has started the ranks it is `launched_anew` that gives the name back: ranks that it starts again
    do without ``--fresh``, and would go on with the old run.

    Args:
        fresh: Whether it is; else nothing is done.
        folder: The run's.
        world: The ranks.

    Raises:
        UserError: The folder is in use, or cannot be renamed.
    """
    aside: Path | None = None

    def set_aside() -> None:
        nonlocal aside
        aside = folder.set_aside()
        if aside is not None:
            print(f"the old run is kept as {aside}")
            if ASIDE in os.environ:
                Path(os.environ[ASIDE]).write_text(str(aside.resolve()), encoding="utf-8")

    try:
        if fresh:
            world.first_only(set_aside)
        yield
    except BaseException:  # whatever ended it: what never began leaves no folder
        if aside is not None and not (launched_by_us() and os.getppid() == int(os.environ[LAUNCHER])):
            _give_back(folder, aside)
        raise


@contextlib.contextmanager
def launched_anew(fresh: bool, folder: RunFolder) -> Iterator[None]:
    """Around the launcher of the ranks: what they have renamed has its name back where the new run never began.

    Args:
        fresh: Whether they rename it; else nothing is done.
        folder: The run's.
    """
    if not fresh:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="dmf-fresh-") as home:
        note = Path(home) / "aside"
        os.environ[ASIDE] = str(note)  # for rank 0, if it is on this machine
        try:
            yield
        finally:
            del os.environ[ASIDE]
            if note.exists():
                _give_back(folder, Path(note.read_text(encoding="utf-8")))


def _give_back(folder: RunFolder, aside: Path) -> None:
    if folder.recipe.exists():
        return  # it has begun, and who waits for the folder may have it at once
    try:
        folder.hold()
        folder.release()  # what a rank that was killed has left, if it is empty, goes
        if folder.path.exists():
            raise UserError(f"something is in {folder.path} by now")
        aside.rename(folder.path)
    except (UserError, OSError) as error:  # what has ended the run is what is raised
        print(f"the new run has not begun; the old one stays in {aside}: {error}")
    else:
        print(f"the new run has not begun, and the old one has its name back: {folder.path}")
