"""The command line. Only names and help texts are loaded at once; a command's work is imported when it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from .. import __version__
from ..registry.errors import UserError
from .commands import COMMANDS
from .commands.flags import add_commands
from .signals import Interrupted

FIRST_STEPS = """\
first steps:
  dmf run recipes/digits_dit.yaml    train a small model, in a few minutes, without a GPU
  mlflow ui                          look at its curves and pictures
  dmf recipes                        what else is there to run
  dmf plugins                        what it is made of
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 done, 1 the run failed, 2 the user's input is wrong, 130 after Ctrl-C, 143 after SIGTERM.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    args = parse(words)
    try:
        code: int = args.execute(args)
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except Interrupted as stop:
        return stop.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `dmf plugins | head`
        sys.stderr.close()
        return 0
    except (RuntimeError, MemoryError, OSError) as error:
        return _of_machine(error)


def _of_machine(error: Exception) -> int:
    """Say it, if memory is what lacks, or room on a disk; else it stays what it is."""
    from .trouble import told_of_memory, told_of_room

    said = told_of_memory(error) or told_of_room(error)
    if said is None:
        raise error
    print(f"error: {said}", file=sys.stderr)
    return 1


def parse(words: list[str]) -> argparse.Namespace:
    """The parsed words. ``key=value`` may stand anywhere, also after flags, where argparse alone would not take it.

    So may any word of a command that takes ``words``.
    """
    top = parser()
    args, left = top.parse_known_args(words)
    name = "words" if hasattr(args, "words") else "overrides"
    strange = [w for w in left if w.startswith("-") or ("=" not in w and name != "words") or not hasattr(args, name)]
    if strange:
        top.error(f"unrecognized arguments: {' '.join(strange)} (dmf {args.command} --help lists those there are)")
    if left:
        setattr(args, name, [*getattr(args, name), *left])
    args.argv = words
    return args


class Parser(argparse.ArgumentParser):
    """Takes options by their whole names, in every command below it too.

    Ranks that are started again are given the command without what is done but once (``--fresh``), which goes by its
    name: argparse would take ``--fre`` for it, and each restart would then train from the start.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = Parser(
        prog="dmf",
        description="Train, sample and score image diffusion models; every part is a plugin.",
        epilog=FIRST_STEPS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"dmf {__version__}")
    add_commands(top, COMMANDS, "command")
    return top
