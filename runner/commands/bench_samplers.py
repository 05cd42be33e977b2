"""`dmf bench samplers`: every sampler on data whose answer is known."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from .bench_output import add_output, check_output, put_out
from .flags import check_writable, positive

HELP = "error against network evaluations, for every sampler, beside the schedulers of diffusers; some minutes"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--points", type=positive, default=1024, metavar="N", help="samples a walk (default: 1024)")
    parser.add_argument(
        "--evaluations", type=_numbers, metavar="LIST", help="network evaluations (default: 3,5,8,10,15,20,35,50)"
    )
    parser.add_argument("--grids", metavar="LIST", help="grids for every sampler (default: the one that each declares)")
    parser.add_argument("--schedule", default="linear", metavar="NAME", help="a table of betas (default: linear)")
    add_output(parser)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a picture of the curves")


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(positive(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: whole numbers with commas between, as 5,10,20") from None


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ...registry import build
    from ...testing.bench import report
    from ...testing.bench.others import alpha_bars
    from ...testing.bench.problems import MIXTURES, problem
    from ...testing.bench.samplers import EVALUATIONS, Result, Walk, walks
    from ..console import TaskProgress, start_console
    from ..outputs import Outputs

    start_console(0)
    check_output(args)
    check_writable(args.plot, (".png",))
    grids = args.grids and tuple(args.grids.split(","))
    for grid in grids or ():  # mistakes are told before the work begins
        build("grid", grid)
    schedule = build("schedule", args.schedule)
    alpha_bars(schedule)
    problems = [problem(name, schedule, args.points) for name in MIXTURES]
    todo: Sequence[Walk] = [w for p in problems for w in walks(p, args.evaluations or EVALUATIONS, grids)]
    results: list[Result] = []
    with TaskProgress("bench samplers", len(todo)) as bar:
        for walk in todo:
            results += walk()
            bar.step(1)
    with Outputs() as files:
        if args.plot is not None:
            files.write(args.plot, lambda: report.plot(results, args.plot))
        put_out(args, report.tables(results, problems), [asdict(r) for r in results])
    return 0
