"""`dmf run`: train, sample, evaluate, as the recipe says."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...registry.errors import UserError
from .flags import add_overrides, add_runs, positive

if TYPE_CHECKING:
    from ...registry import Recipe
    from ..world import World

HELP = "train, sample and evaluate as a recipe says; given again, carry on where the run stopped"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("recipe", help="a YAML file, or the name of a shipped recipe (dmf recipes)")
    add_overrides(parser)
    add_runs(parser)
    parser.add_argument(
        "--ranks", type=positive, default=1, metavar="N", help="processes on this machine that train together"
    )
    parser.add_argument("--fresh", action="store_true", help="start anew; the old folder is renamed, not deleted")


def execute(args: argparse.Namespace, phases: Sequence[str] = ("train", "sample", "evaluate")) -> int:
    """Run the command."""
    from ...registry import read
    from ..assemble import check_parts
    from ..launching import launch, under_launcher

    recipe = read(args.recipe, args.overrides)
    check_parts(recipe)  # what is wrong there is told before data are read and processes started
    if args.ranks > 1 and not under_launcher():
        if args.fresh:
            set_aside(args.runs / recipe.name)
        return launch(args.ranks, [word for word in args.argv if word != "--fresh"])
    return _work(args, recipe, phases)


def _work(args: argparse.Namespace, recipe: Recipe, phases: Sequence[str]) -> int:
    from ..console import log
    from ..pipeline import carry_out, done_message
    from ..session import open_session
    from ..signals import Interrupted
    from ..training.guard import Diverged
    from .on_ranks import on_ranks

    def work(world: World) -> None:
        check_ranks(args.ranks, recipe.train.batch_size, world.size)
        if args.fresh:
            world.first_only(lambda: set_aside(args.runs / recipe.name))
        with open_session(recipe, args.runs, world) as session:
            if not carry_out(session, phases):
                log.info("%s", done_message(session, args.recipe, args.overrides))

    try:
        return on_ranks(recipe.device, work)
    except Interrupted as stop:
        how = "Ctrl-C" if stop.exit_code == 130 else "SIGTERM"
        log.info("stopped by %s; nothing is lost: give the same command again to go on", how)
        raise
    except Diverged as error:
        log.error("%s", error)
        return 1


def check_ranks(wanted: int, batch_size: int, ranks: int) -> None:
    """Refuse a number of ranks that the launcher did not start, or that cannot share the batch.

    Raises:
        UserError: Saying which.
    """
    if wanted not in (1, ranks):
        raise UserError(f"--ranks {wanted}, but a launcher has started {ranks}; leave --ranks out under a launcher")
    if batch_size % ranks:
        raise UserError(
            f"train.batch_size is {batch_size}, the batch of all {ranks} ranks together; "
            f"it must be a multiple of {ranks}"
        )


def set_aside(folder: Path) -> None:
    """Rename the run's old folder."""
    from ..folder import RunFolder

    held = RunFolder(folder)
    if folder.exists():
        held.hold()  # not while somebody writes there
        held.release()
    aside = held.set_aside()
    if aside is not None:
        print(f"the old run is kept as {aside}")
