"""`dmf data cache`: what is kept from one run to the next, and clearing it."""

from __future__ import annotations

import argparse

from ...registry.errors import UserError

HELP = "list what is kept from one run to the next: indexes, decoded pictures, latents, what metrics saw; or clear it"
KINDS = ("index", "latents", "pixels", "reference")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "--clear",
        nargs="?",
        const="all",
        choices=(*KINDS, "all"),
        metavar="KIND",
        help=f"delete all of it, or one kind ({', '.join(KINDS)}); it is made anew when it is needed",
    )


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ...files.cache import cache_folder
    from ...files.words import told_size
    from ..caches import clear, found

    root = cache_folder("")
    if args.clear:
        try:
            freed, in_use = clear(root, KINDS if args.clear == "all" else [args.clear])
        except OSError as error:
            raise UserError(f"{error.filename}: {error.strerror}; delete it by hand") from error
        for path in in_use:
            print(f"left, a run uses it: {path}")
        print(f"{told_size(freed)} deleted in {root}")
        return 0
    rows = found(root, KINDS)
    for one in rows:
        print(f"{one.kind:<10}{told_size(one.size):>11}  {one.about}\n{'':<23}{one.path.relative_to(root)}")
    hint = "; dmf data cache --clear deletes it" if rows else ""
    print(f"{told_size(sum(one.size for one in rows))} in {root}{hint}")
    return 0
