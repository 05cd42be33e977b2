"""`dmf train`: the training of a recipe alone."""

from __future__ import annotations

import argparse

from . import run

HELP = "train as a recipe says, without sampling and scoring; given again, carry on where the training stopped"
arguments = run.arguments


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    return run.execute(args, ("train",))
