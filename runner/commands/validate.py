"""`dmf validate`: check a recipe; of its parts, only what is quickly built is built."""

from __future__ import annotations

import argparse

from .flags import add_overrides

CHECKED_LATER = "image sizes and the network are checked against the data when a run starts"
HELP = "check a recipe's keys, types, ranges and parts, without running it"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("recipe", help="a YAML file, or the name of a shipped recipe")
    add_overrides(parser)
    parser.add_argument("--print", action="store_true", help="print the resolved recipe, every default filled in")


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ...registry import read
    from ..assemble import check_parts

    recipe = read(args.recipe, args.overrides)
    check_parts(recipe)
    if args.print:
        print(recipe.to_yaml(), end="")
    else:
        print(f"{args.recipe}: a valid recipe ({recipe.name}); {CHECKED_LATER}")
    return 0
