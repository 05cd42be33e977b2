"""`dmf data`: collections of pictures, a verb a file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from types import ModuleType

from . import data_cache, data_inspect, data_prepare

HELP = "make a clean set out of pictures of any sizes and formats; look through one; what is kept of sets"
VERBS: Mapping[str, ModuleType] = {"prepare": data_prepare, "inspect": data_inspect, "cache": data_cache}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, verb in VERBS.items():
        verb.arguments(verbs.add_parser(name, help=verb.HELP, description=verb.HELP))


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    code: int = VERBS[args.verb].execute(args)
    return code
