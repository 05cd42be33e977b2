"""`dmf bench checkpoints`: what a checkpoint costs the training."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from .bench_output import add_output, check_output, put_out
from .flags import positive

HELP = (
    "what a checkpoint takes from the training: one that is waited for beside one that is written while training goes "
    "on; two minutes on a CPU, a gibibyte of disk"
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--mib", type=positive, default=200, metavar="N", help="size of the weights (default: 200)")
    parser.add_argument("--batch", type=positive, default=64, metavar="N", help="rows a step (default: 64)")
    parser.add_argument(
        "--repeats", type=positive, default=5, metavar="N", help="checkpoints of each kind (default: 5)"
    )
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="on the disk that is meant (default: that of temporary files)"
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to compute")
    add_output(parser)


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ...registry import UserError
    from ...testing.bench import data_report
    from ...testing.bench.data import Conditions
    from ..bench.checkpoints import checkpoints
    from ..console import TaskProgress, start_console
    from ..world import join

    start_console(0)
    check_output(args)
    if args.folder is not None and not args.folder.is_dir():
        raise UserError(f"--folder {args.folder} is no folder; name one on the disk that is meant")
    world = join(args.device)
    with (
        tempfile.TemporaryDirectory(prefix="dmf-bench-", dir=args.folder) as scratch,
        TaskProgress("bench checkpoints", 2 * (args.repeats + 1)) as bar,
    ):
        result = checkpoints(world, Path(scratch), args.mib, args.batch, args.repeats, bar.step)
    under = Conditions(world.device, args.batch, args.repeats, 0)
    beside = "safetensors"
    put_out(args, data_report.tables([result], under, beside), data_report.as_json([result], under, beside))
    return 0
