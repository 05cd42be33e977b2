"""`dmf bench`: measure what is installed, a subject a file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from types import ModuleType

from . import bench_backbones, bench_data, bench_metrics, bench_samplers
from .flags import add_commands

HELP = "measure samplers on data whose answer is known, and the speed of backbones, of the data path and of metrics"
SUBJECTS: Mapping[str, ModuleType] = {
    "samplers": bench_samplers,
    "backbones": bench_backbones,
    "data": bench_data,
    "metrics": bench_metrics,
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add_commands(parser, SUBJECTS, "subject")
