"""Writes commands.md from the commands' own help: ``python docs/generate_commands.py``."""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from dmf.runner.cli import parser

PAGE = Path(__file__).resolve().parent / "commands.md"
HEAD = """\
# Commands

<!-- This page is written by docs/generate_commands.py; change the help texts in runner/commands/. -->

What each command answers to `--help`. Exit codes: 0 done, 1 the run failed, 2 the input is wrong, 130 after Ctrl-C,
143 after SIGTERM. `key=value` may stand anywhere after the command; [recipes.md](recipes.md) has the keys.
"""


def page() -> str:
    """The whole page."""
    os.environ.update(COLUMNS="100", NO_COLOR="1")  # where argparse looks for the width of its lines
    return "\n".join([HEAD, *(line for one in commands(parser()) for line in section(one))])


def commands(top: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The command, and all below it."""
    yield top
    for action in top._actions:  # argparse has no public way down
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from commands(below)


def section(command: argparse.ArgumentParser) -> Iterator[str]:
    """A heading and the help."""
    yield from (f"## {command.prog}", "", "```text", command.format_help().rstrip(), "```", "")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
