"""Flags of commands that train: how a run that is there is gone on with."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ...registry.errors import UserError
from .flags import positive

if TYPE_CHECKING:
    from ...registry import Recipe
    from ..folder import RunFolder

WAITED_S = 120


def add_going_on(parser: argparse.ArgumentParser) -> None:
    """The flags, in a group of their own."""
    group = parser.add_argument_group("going on", "with a run that is there")
    group.add_argument(
        "--extend", type=positive, metavar="STEPS", help="train a finished run for so many steps more than it has"
    )
    group.add_argument(
        "--stretch",
        action="store_true",
        help="lay the decay of the learning rate out anew, for the number of steps given now (default: it keeps the "
        "length it was laid out for, and its last value afterwards)",
    )
    group.add_argument(
        "--restart",
        action="store_true",
        help="if a process is at this run, ask it to write a checkpoint and stop, and carry on in its place",
    )
    group.add_argument(
        "--restart-timeout",
        type=positive,
        metavar="SECONDS",
        help=f"how long --restart waits for it to hear, and again for it to leave (default: {WAITED_S})",
    )


def extended(args: argparse.Namespace, recipe: Recipe) -> Recipe:
    """The recipe with the steps that ``--extend`` asks for; the command's words then ask for them by number.

    So ranks that are started again after one has died do not extend the run a second time.

    Raises:
        UserError: There is no finished run to extend.
    """
    if args.extend is None:
        return recipe
    from ...registry import read
    from ..folder import RunFolder
    from ..launching import find_place

    if find_place().launcher:
        raise UserError(
            "--extend under a launcher would extend the run anew whenever its ranks are started again; write the "
            "number of steps in all: train.steps=N"
        )
    steps = f"train.steps={_finished_steps(RunFolder(args.runs / recipe.name), args.overrides) + args.extend}"
    args.overrides = [*args.overrides, steps]
    args.argv = [*without(args.argv, "--extend"), steps]
    return read(args.recipe, args.overrides)


def _finished_steps(folder: RunFolder, overrides: Sequence[str]) -> int:
    """Steps that a finished run has."""
    from ...registry import read
    from .. import checkpoints
    from ..runs import is_trained

    if any(word.startswith("train.steps=") for word in overrides):
        raise UserError("--extend and train.steps=N both say how far to train; leave one of them out")
    saved = checkpoints.newest(folder.checkpoints, groups=())
    if saved is None or not folder.recipe.exists():
        raise UserError(f"{folder.path} holds no trained run to extend; leave --extend out")
    wanted = read(folder.recipe).train.steps
    if not is_trained(folder, saved.step, wanted):
        raise UserError(
            f"{folder.path} has {saved.step} of its {wanted} steps: it is not finished, and --extend goes on with a "
            f"finished run. Finish it with: dmf resume {folder.path}; or say how many steps it should have in all: "
            f"dmf resume {folder.path} train.steps={wanted + 1000}"
        )
    return saved.step


def without(words: Sequence[str], flag: str) -> list[str]:
    """The words of a command without a flag that has a value."""
    left, kept = iter(words), []
    for word in left:
        if word == flag:
            next(left)
        elif not word.startswith(f"{flag}="):
            kept.append(word)
    return kept


def make_room(args: argparse.Namespace, recipe: Recipe, say: Callable[[str], None]) -> None:
    """With ``--restart``: have the process that is at the run leave it, unless it could not be gone on with anyway.

    Raises:
        UserError: The recipe is of another run, or the process does not leave.
    """
    if not args.restart:
        return
    from ...registry import read
    from ..folder import RunFolder
    from ..pipeline import check_against
    from ..reference import check_reference_anew
    from ..runs import spec_of
    from ..same_run import check_same
    from ..signals import Signals
    from ..takeover import take_over
    from ..training.sources import check_source

    folder = RunFolder(args.runs / recipe.name)
    if folder.writer() is None:
        return  # whether the recipe goes on with what lies there is seen as it is opened
    if args.fresh:  # before a run is stopped in vain
        check_reference_anew(recipe, folder)
        if recipe.init_from is not None:
            check_source(recipe.init_from, args.runs)
    elif folder.recipe.exists():
        check_same(read(folder.recipe), recipe, folder.path)
        if folder.spec.exists():  # else it has only just begun
            check_against(recipe, spec_of(folder), folder)
    with Signals(heard=False) as signals:
        signals.at_once = True  # also by SIGTERM the request is withdrawn: else that run would leave for nobody
        take_over(folder, args.restart_timeout or WAITED_S, say)
