"""`dmf ema`: averages of the weights of other lengths, after the training."""

from __future__ import annotations

import argparse

from .flags import add_runs

HELP = "make averages of other lengths from those that a training kept"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "run", metavar="RUN", help="a run's folder, or its name; RUN@400 is at step 400, of those with a snapshot"
    )
    parser.add_argument(
        "--length",
        metavar="LIST",
        type=lengths,
        required=True,
        help="relative lengths, as 0.05,0.10: the profile's standard deviation in shares of the training; "
        "--weights posthoc-0.05 uses what is made",
    )
    parser.add_argument(
        "--metric", metavar="LIST", help="score them by these metrics, as dmf evaluate RUN --sweep length=... does"
    )
    parser.add_argument("--images", metavar="N", help="images to make and score of each (default: the recipe's)")
    add_runs(parser)


def lengths(text: str) -> list[float]:
    """Numbers with commas between, each once, for argparse."""
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: numbers with commas between, as 0.05,0.10") from None
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r}: a length stands there twice")
    return found


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ...registry import UserError
    from ..console import log, start_console
    from ..outputs import why_not
    from ..posthoc.lengths import shown, solve, write
    from ..posthoc.tracks import find_tracks
    from ..runs import find_checkpoint
    from ..trouble import CannotWrite
    from ..world import join

    start_console(0)
    if args.images is not None and args.metric is None:
        raise UserError("--images are made to be scored: give --metric too")
    folder, step = find_checkpoint(args.run, args.runs)
    tracks = find_tracks(folder, step)
    made = solve(tracks, args.length)
    why = why_not(folder.averages / "new")
    if why is not None:
        raise UserError(f"averages are kept in {folder.averages}, and nothing can be written there: {why}")
    try:
        write(folder, tracks, made, join("cpu"))
    except (OSError, CannotWrite) as error:
        raise UserError(f"not all averages could be made in {folder.averages}: {error}") from error
    log.info("step %d, from %s\n%s", tracks.step, tracks.about(), shown(made))
    return 0 if args.metric is None else _score(args)


def _score(args: argparse.Namespace) -> int:
    from ..cli import main

    words = ["evaluate", args.run, "--runs", str(args.runs), "--metrics", args.metric]
    words += [] if args.images is None else ["--images", args.images]
    return main([*words, "--sweep", f"length={','.join(f'{length:.15g}' for length in args.length)}"])
