"""`--fresh`: the old folder is kept aside, and has its name back where nothing new begins."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ...registry.errors import UserError
from ..launching import launched_by_us

if TYPE_CHECKING:
    from ...registry import Recipe
    from ..folder import RunFolder
    from ..world import World


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

    try:
        if fresh:
            world.first_only(set_aside)
        yield
    except BaseException:  # whatever ended it: what never began leaves no folder
        if aside is not None and not launched_by_us():
            _give_back(folder, aside)
        raise


@contextlib.contextmanager
def launched_anew(fresh: bool, folder: RunFolder) -> Iterator[None]:
    """Around the launcher of the ranks: what they have renamed has its name back where the new run never began.

    Args:
        fresh: Whether they rename it; else nothing is done.
        folder: The run's.
    """
    from ...files.writing import free_name

    aside = free_name(folder.path)
    try:
        yield
    finally:
        if fresh:
            _give_back(folder, aside)


def _give_back(folder: RunFolder, aside: Path) -> None:
    if aside.exists() and not folder.path.exists():
        with contextlib.suppress(FileNotFoundError):  # the launcher on another machine was faster
            aside.rename(folder.path)
            print(f"the new run has not begun, and the old one has its name back: {folder.path}")
