"""`dmf run`: train, sample, evaluate, as the recipe says."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ...registry.errors import UserError
from ..launching import add_launch, launch, launched_by_us, plan_for
from .anew import begun_anew, check_fresh, check_start, launched_anew
from .flags import add_overrides, add_runs
from .going_on import add_going_on, extended, make_room

if TYPE_CHECKING:
    from ...registry import Recipe
    from ..session import Session
    from ..world import World

HELP = "train, sample and evaluate as a recipe says; given again, carry on where the run stopped"
ONCE = ("--fresh", "--restart")  # not done anew by ranks that are started again after one has died
MAY_DIFFER = ("dataset.", "hooks", "device")  # between machines: where the data lies, who is told, what computes


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("recipe", help="a YAML file, or the name of a shipped recipe (dmf recipes)")
    add_overrides(parser)
    add_runs(parser)
    parser.add_argument("--fresh", action="store_true", help="start anew; the old folder is renamed, not deleted")
    add_going_on(parser)
    add_launch(parser)


def execute(args: argparse.Namespace, phases: Sequence[str] = ("train", "sample", "evaluate")) -> int:
    """Run the command."""
    from ...registry import read
    from ..assemble import check_parts
    from ..folder import RunFolder

    check_flags(args)
    recipe = extended(args, read(args.recipe, args.overrides))
    check_parts(recipe)  # what is wrong there is told before data are read and processes started
    plan = plan_for(args, recipe.device, recipe.name)
    if plan is None:
        return _work(args, recipe, phases)
    if plan.nodes == 1:  # else another machine may have more
        check_batch(recipe.train.batch_size, plan.ranks)
    make_way(args, recipe, print)
    with launched_anew(args.fresh, RunFolder(args.runs / recipe.name)):
        return launch(plan, args.argv, once=ONCE)


def _work(args: argparse.Namespace, recipe: Recipe, phases: Sequence[str]) -> int:
    from ..console import log
    from ..signals import Interrupted
    from .on_ranks import on_ranks

    def work(world: World) -> None:
        try:
            _carry_out(args, recipe, phases, world)
        except Interrupted as stop:
            how = "Ctrl-C" if stop.exit_code == 130 else "SIGTERM"
            again = f"dmf resume {args.runs / recipe.name}" if args.extend else "give the same command again"
            log.info("stopped by %s; nothing is lost: %s to go on", how, again)
            raise

    return on_ranks(recipe.device, work, recipe.distributed.timeout_s)


def _carry_out(args: argparse.Namespace, recipe: Recipe, phases: Sequence[str], world: World) -> None:
    from ..console import log
    from ..done import done_message
    from ..folder import RunFolder
    from ..pipeline import carry_out
    from ..session import open_session

    check_batch(recipe.train.batch_size, world.size)
    check_alike(recipe, args.fresh, world)
    world.first_only(lambda: make_way(args, recipe, log.info))
    begun = begun_anew(args.fresh, RunFolder(args.runs / recipe.name), world)
    with begun, open_session(recipe, args.runs, world, args.stretch) as session:
        check_shared(session)
        if not carry_out(session, phases):
            log.info("%s", done_message(session, args.recipe, args.overrides))


def make_way(args: argparse.Namespace, recipe: Recipe, say: Callable[[str], None]) -> None:
    """Before the run's folder is taken: who is at it leaves, with ``--restart``; what cannot begin stops nobody.

    Raises:
        UserError: It cannot be begun anew, or gone on with, or the process does not leave.
    """
    if args.fresh:
        check_fresh()
        check_start(recipe, args.runs)
    make_room(args, recipe, say)


def check_flags(args: argparse.Namespace) -> None:
    """Refuse flags that contradict one another, or do nothing without another.

    Raises:
        UserError: Naming them.
    """
    if args.fresh and (args.extend is not None or args.stretch):
        flag = "--stretch" if args.extend is None else "--extend"
        raise UserError(f"{flag} goes on with the run that is there, and --fresh starts anew; leave one of them out")
    if args.restart_timeout is not None and not args.restart and not launched_by_us():  # that does without ONCE
        raise UserError("--restart-timeout is how long --restart waits: give --restart too, or leave it out")


def check_batch(batch_size: int, ranks: int) -> None:
    """Refuse a number of ranks that cannot share the batch.

    Raises:
        UserError: Saying so.
    """
    if batch_size % ranks:
        fits = max(n for n in range(1, ranks) if batch_size % n == 0)
        raise UserError(
            f"train.batch_size is {batch_size}, the batch of all {ranks} ranks together; it must be a multiple of "
            f"{ranks}. Take {fits} of them (--gpus {fits}, or --ranks {fits} on CPUs), or another batch size"
        )


def check_alike(recipe: Recipe, fresh: bool, world: World) -> None:
    """Refuse ranks of several commands: each machine has been given one of its own.

    Raises:
        UserError: Naming what differs.
    """
    from ...registry import differences

    def alike() -> None:
        differ = [line for line in differences(first, recipe) if not line.startswith(MAY_DIFFER)]
        if differ:
            listed = "\n  ".join(differ)
            raise UserError(f"rank {world.rank} was given another recipe than rank 0:\n  {listed}\nGive all the same")
        if fresh != first_fresh:
            one, other = (0, world.rank) if first_fresh else (world.rank, 0)
            raise UserError(
                f"rank {one} is to start anew (--fresh), and rank {other} to go on with what is there: once all have "
                "ended, give all machines the same command"
            )

    first: Recipe
    first, first_fresh = world.tell((recipe, fresh))
    world.together(alike)


def check_shared(session: Session) -> None:
    """Refuse machines that do not see the same folder of runs.

    Raises:
        UserError: Saying what to do.
    """

    def shared() -> None:
        if not session.folder.is_dir() or session.start_step != first:
            raise UserError(
                f"{session.folder} is not the same folder on all machines: rank 0 goes on from step {first}, rank "
                f"{session.world.rank} would from {session.start_step}; put it on a shared disk, by --runs FOLDER"
            )

    first: int = session.world.tell(session.start_step)
    session.world.together(shared)
