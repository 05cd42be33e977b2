"""`dmf bench`: measure what is installed, a subject a file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from types import ModuleType

from . import bench_backbones, bench_checkpoints, bench_data, bench_metrics, bench_samplers, bench_training
from .flags import add_commands

HELP = "measure samplers on data whose answer is known; the speed of backbones, checkpoints, data, metrics, training"
SUBJECTS: Mapping[str, ModuleType] = {
    "samplers": bench_samplers,
    "backbones": bench_backbones,
    "data": bench_data,
    "metrics": bench_metrics,
    "checkpoints": bench_checkpoints,
    "training": bench_training,
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add_commands(parser, SUBJECTS, "subject")
