"""`dmf recipes`: list, show and copy the recipes that come with the package."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...registry.errors import UserError

HELP = "list the shipped recipes; show one; copy one to start from"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.set_defaults(what="list")
    whats = parser.add_subparsers(dest="what", metavar="list | show | copy")
    whats.add_parser("list", help="names and what each trains (the default)")
    show = whats.add_parser("show", help="print a recipe", description="print a recipe")
    show.add_argument("name", help="a shipped recipe")
    copy = whats.add_parser("copy", help="write a recipe to a file of your own")
    copy.add_argument("name", help="a shipped recipe")
    copy.add_argument(
        "file", type=Path, nargs="?", help="default: NAME.yaml here; an existing file is never overwritten"
    )


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ...registry.shipped import headline, shipped, text

    if args.what in (None, "list"):
        names = shipped()
        width = max(map(len, names), default=0)
        print("\n".join(f"{name.ljust(width)}  {headline(name)}" for name in names))
    elif args.what == "show":
        print(text(args.name), end="")
    else:
        _copy(args.file or Path(f"{args.name.removesuffix('.yaml')}.yaml"), text(args.name))
    return 0


def _copy(file: Path, content: str) -> None:
    try:
        with open(file, "x", encoding="utf-8") as out:
            out.write(content)
    except FileExistsError:
        raise UserError(f"{file} exists; name another file: dmf recipes copy NAME FILE") from None
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from None
    print(f"{file}: change it and run it with: dmf run {file}")
