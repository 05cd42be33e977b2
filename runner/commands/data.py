"""`dmf data`: collections of pictures, a verb a file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from types import ModuleType

from . import data_cache, data_inspect, data_prepare
from .flags import add_commands

HELP = "make a clean set out of pictures of any sizes and formats; look through one; what is kept of sets"
VERBS: Mapping[str, ModuleType] = {"prepare": data_prepare, "inspect": data_inspect, "cache": data_cache}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add_commands(parser, VERBS, "verb")
