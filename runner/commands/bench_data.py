"""`dmf bench data`: the way from the data to the training step, beside torchvision's."""

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
    from ..bench.workshop import Sizes, Workshop

    Hold = Callable[[Workshop, Callable[[], None]], Result]

HELP = (
    "speed of what brings images to the training step, beside torchvision's loaders: images/s, wait, start, "
    "augmentations, data prepare; six minutes on a CPU; needs CIFAR-10"
)
CONTESTS = ("resident", "streamed", "wait", "start", "prepare", "edm")
TURN_S = 1.0
STEP_BATCH = 8  # images of a training step on a CPU, where the recipe's take minutes


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--only", metavar="LIST", help=f"of {', '.join(CONTESTS)} (default: all of them)")
    parser.add_argument("--batch", type=positive, default=128, metavar="N", help="images a batch (default: 128)")
    parser.add_argument("--repeats", type=positive, default=7, metavar="N", help="turns of each side (default: 7)")
    parser.add_argument("--root", metavar="FOLDER", help="that holds cifar-10-batches-py (default: $DMF_DATA, or data)")
    parser.add_argument(
        "--pictures", type=Path, metavar="DIR", help="pictures for `prepare` (default: 4,000 JPEG files drawn for it)"
    )
    parser.add_argument(
        "--files", type=positive, default=100_000, metavar="N", help="PNG files for `start` (default: 100000)"
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to compute")
    add_output(parser)


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ...testing.bench import data_report
    from ...testing.bench.data import Conditions
    from ..console import start_console
    from ..world import join

    start_console(0)
    check_output(args)
    names = chosen(args.only, CONTESTS, "--only", "contest")
    under = Conditions(join(args.device).device, args.batch, args.repeats, TURN_S)
    results = _held(args, names, under)
    put_out(args, data_report.tables(results, under), data_report.as_json(results, under))
    return 0


def _held(args: argparse.Namespace, names: list[str], under: Conditions) -> list[Result]:
    """The outcomes of the contests."""
    from ..bench.workshop import Sizes, Workshop
    from ..console import TaskProgress

    sizes = Sizes(files=args.files, step_batch=STEP_BATCH if under.device.type == "cpu" else None)
    contests, results = _contests(sizes, under), []
    with tempfile.TemporaryDirectory(prefix="dmf-bench-") as scratch:
        shop = Workshop(under, Path(scratch), args.root, args.pictures, sizes)
        shop.check()
        with TaskProgress("bench data", sum(contests[name][1] for name in names)) as bar:
            for name in names:
                bar.note(contest=name)
                results.append(contests[name][0](shop, bar.step))
    return results


def _contests(sizes: Sizes, under: Conditions) -> dict[str, tuple[Hold, int]]:
    """How each is held, and how often it tells that it has come further."""
    from ..bench import contests as here
    from ..bench import fresh as fresh

    turns, steps = under.rounds + 1, sizes.steps
    return {
        "resident": (here.resident, turns),
        "streamed": (here.streamed, turns),
        "wait": (here.wait, 2 * steps),
        "start": (fresh.start, fresh.ROUNDS),
        "prepare": (fresh.prepare, fresh.ROUNDS),
        "edm": (here.edm, turns + steps),
    }
