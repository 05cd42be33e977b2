"""`dmf data prepare`: one clean, square, numbered set out of collections of pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from .flags import positive

HELP = "merge folders and zips of pictures into one clean, square, numbered set; given again, carry on"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("words", nargs="+", metavar="SRC", help="folder or zip with pictures")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the set, new or empty")
    parser.add_argument("--size", type=positive, required=True, metavar="N", help="side of its images in pixels")
    parser.add_argument("--channels", type=int, choices=(3, 1), default=3, help="3 for colour (default), 1 for grey")
    parser.add_argument(
        "--labels",
        default="auto",
        metavar="HOW",
        help="auto (default), folders, none, or a JSON file in each SRC; as of image_folder",
    )
    parser.add_argument(
        "--background", choices=("white", "black", "grey"), default="white", help="under transparent parts"
    )
    parser.add_argument(
        "--min-side",
        type=positive,
        metavar="N",
        help="leave out pictures whose shorter side has fewer pixels (default: half of --size, so that none is "
        "enlarged more than twofold)",
    )
    parser.add_argument("--workers", type=positive, metavar="N", help="pictures at a time (default: one a core)")
    parser.add_argument("--fresh", action="store_true", help="begin again; the old DIR is renamed, not deleted")


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ...files.places import home
    from ...files.threads import cores
    from ..collections.one_picture import Options
    from ..collections.output import begin_again
    from ..collections.prepare import prepare
    from ..collections.report import report
    from ..collections.sources import Sources, check_apart
    from ..console import log, start_console

    start_console(0)
    roots, out = [home(word) for word in args.words], home(args.out)
    check_apart(roots, out)
    sources = Sources(roots, args.labels)
    min_side = args.min_side or (args.size + 1) // 2
    options = Options(args.size, args.channels, args.labels, args.background, min_side)
    if len(roots) > 1 and not sources.classes and args.labels == "auto":
        log.info("no labels: to make each source a class, move them into one folder and give that")
    if args.fresh:
        aside = begin_again(out)
        if aside is not None:
            log.info("the old set is kept as %s", aside)
    done = prepare(sources, options, out, args.workers or cores())
    report(done, options, out, sources.classes)
    return 0
