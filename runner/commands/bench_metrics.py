"""`dmf bench metrics`: what metrics cost, beside the extractor alone and beside torch-fidelity."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .bench_output import add_output, check_output, chosen, put_out
from .flags import positive

if TYPE_CHECKING:
    from ...testing.bench.data import Conditions, Result
    from ..bench.metrics import Sizes

    Hold = Callable[[Sizes, Conditions, Path, Callable[[], None]], Result]

HELP = (
    "cost of metrics: features through an evaluation beside the extractor alone, statistics beside torch-fidelity's, "
    "memory of those that keep all features; a quarter of an hour on a CPU"
)
CONTESTS = ("extraction", "statistics", "memory")
BESIDE = "torch-fidelity"
IMAGES = {"cpu": {"classifier": 1024, "inception": 64}, "cuda": {"classifier": 50_000, "inception": 2048}}
BATCHES = {"cpu": {"classifier": 128, "inception": 32}, "cuda": {"classifier": 500, "inception": 128}}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--only", metavar="LIST", help=f"of {', '.join(CONTESTS)} (default: all of them)")
    parser.add_argument("--rows", type=positive, default=50_000, metavar="N", help="features a side (default: 50000)")
    parser.add_argument("--dim", type=positive, default=2048, metavar="D", help="their length (default: 2048)")
    parser.add_argument("--repeats", type=positive, default=5, metavar="N", help="turns of each side (default: 5)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to compute")
    add_output(parser)


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ...testing.bench import data_report
    from ...testing.bench.data import Conditions
    from ..bench.metrics import BATCH, Sizes
    from ..console import start_console
    from ..world import join

    start_console(0)
    check_output(args)
    names = chosen(args.only, CONTESTS, "--only", "contest")
    under = Conditions(join(args.device).device, BATCH, args.repeats, 0.0)
    kind = under.device.type
    sizes = Sizes(IMAGES[kind], BATCHES[kind], args.rows, args.dim)
    results = _held(names, sizes, under)
    put_out(args, data_report.tables(results, under, BESIDE), data_report.as_json(results, under, BESIDE))
    return 0


def _held(names: list[str], sizes: Sizes, under: Conditions) -> list[Result]:
    """The outcomes of the contests."""
    from ..console import TaskProgress

    contests, results = _contests(sizes, under), []
    with (
        tempfile.TemporaryDirectory(prefix="dmf-bench-") as scratch,
        TaskProgress("bench metrics", sum(contests[name][1] for name in names)) as bar,
    ):
        for name in names:
            bar.note(contest=name)
            results.append(contests[name][0](sizes, under, Path(scratch), bar.step))
    return results


def _contests(sizes: Sizes, under: Conditions) -> dict[str, tuple[Hold, int]]:
    """How each is held, and how often it tells that it has come further."""
    from ..bench import metrics as here

    return {
        "extraction": (here.extraction, len(sizes.images) * under.rounds),
        "statistics": (here.statistics, under.rounds),
        "memory": (here.memory, 3),
    }
