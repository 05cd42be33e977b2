"""`dmf bench training`: what a training step costs above the network in it."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path

from .bench_output import add_output, check_output, put_out
from .flags import add_overrides, positive

HELP = (
    "a training step beside the same network's forward and backward pass and AdamW written by hand, on the same "
    "batches; a minute on a CPU"
)
RECIPES = ("digits_dit",)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "--recipes", metavar="LIST", default=",".join(RECIPES), help=f"whose steps (default: {', '.join(RECIPES)})"
    )
    parser.add_argument("--repeats", type=positive, default=40, metavar="N", help="timed steps of each (default: 40)")
    add_overrides(parser)
    add_output(parser)


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ...registry import read
    from ..bench.training import cost, table
    from ..console import TaskProgress, start_console
    from ..world import World, join

    start_console(0)
    check_output(args)
    names = [name.strip() for name in args.recipes.split(",")]
    device = join(read(names[0], args.overrides).device).device
    found = []
    progress = TaskProgress("bench training", len(names) * (args.repeats + 1))
    with tempfile.TemporaryDirectory(prefix="dmf-bench-") as scratch, progress as bar:
        for name in names:
            bar.note(recipe=name)
            found.append(cost(name, args.overrides, World(0, 1, device), Path(scratch), args.repeats, bar.step))
    put_out(args, table(found, device), [asdict(one) for one in found])
    return 0
