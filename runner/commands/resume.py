"""`dmf resume`: carry a run on by its folder; `dmf resume verify`: show that its recipe resumes exactly."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ...registry.errors import UserError
from ..launching import add_launch
from .flags import add_runs, positive
from .going_on import add_going_on

HELP = "carry a run on by its folder; or, with `verify`, show that a recipe's training resumes exactly"

USAGE = """\
dmf resume RUN [key=value ...] [options]
       dmf resume verify RUN_OR_RECIPE [key=value ...] [--steps N] [--ranks N] [--runs FOLDER]"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.usage = USAGE
    parser.add_argument(
        "words",
        nargs="+",
        metavar="RUN",
        help="a run's folder, or its name; recipe values to change stand behind it, as train.steps=500. `verify` "
        "before it trains its recipe for a few steps in a scratch folder: straight, and killed with -9 in the middle "
        "and resumed; it takes a recipe, too",
    )
    add_runs(parser)
    add_going_on(parser)
    add_launch(parser)
    parser.add_argument("--steps", type=positive, metavar="N", help="of verify: steps to train (default: 30)")


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ..runs import find_run
    from . import run

    if args.words[0] == "verify":
        from .resume_verify import verify

        return verify(args)
    if args.steps is not None:
        raise UserError("--steps is of `dmf resume verify`; to train on: --extend STEPS, or train.steps=N in all")
    folder = find_run(args.words[0], args.runs)
    path = folder.path
    if path.name in ("", ".."):  # `dmf resume .`
        path = Path(os.path.abspath(path))
    if any(word.startswith("name=") for word in args.words[1:]):
        raise UserError(f"name=: a run goes on in its own folder; with another name, run its recipe: {folder.recipe}")
    # the folder may have been renamed since
    args.recipe, args.runs = str(folder.recipe), path.parent
    args.overrides = [f"name={path.name}", *args.words[1:]]
    args.fresh = False
    return run.execute(args)
