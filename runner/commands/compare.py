"""`dmf compare`: runs side by side, on the screen and as one page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .flags import add_runs, check_writable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..compare.boards import Board
    from ..compare.runs import Run

HELP = "put runs side by side: values, curves, pictures, what differs; as one page with --html"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("names", nargs="+", metavar="RUN", help="a run's folder, or its name; of one run a report")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write all of it as one page, pictures in the same file"
    )
    parser.add_argument(
        "--metrics", metavar="LIST", help="only these values: names with commas, or how names begin (default: all)"
    )
    add_runs(parser)


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ..compare.boards import boards_of
    from ..compare.runs import chosen, read_runs
    from ..console import log, start_console
    from ..runs import find_run

    start_console(0)
    check_writable(args.html, (".html", ".htm"))
    runs = read_runs([find_run(name, args.runs) for name in args.names])
    names = chosen(runs, [word.strip() for word in (args.metrics or "").split(",") if word.strip()])
    troubles = [f"{run.name}: {trouble}" for run in runs for trouble in run.troubles]
    boards = boards_of(runs, names)
    page = None if args.html is None else _page(runs, boards, names, troubles)
    for trouble in troubles:
        log.warning("%s", trouble)
    _tell(runs, boards)
    if page is not None:
        _write(page, args.html)
    return 0


def _page(runs: Sequence[Run], boards: Sequence[Board], names: set[str], troubles: list[str]) -> str:
    from ..compare.charts import charts_of
    from ..compare.differ import fact_lines, recipe_lines
    from ..compare.page import page
    from ..compare.pictures import galleries

    pictures = galleries(runs, troubles)  # before troubles are told
    return page(runs, boards, charts_of(runs, names), recipe_lines(runs), fact_lines(runs), pictures, troubles)


def _tell(runs: Sequence[Run], boards: Sequence[Board]) -> None:
    from ..compare.boards_text import recipes_told, values_told
    from ..compare.differ import recipe_lines
    from ..console import log

    for line in (*values_told(boards, runs), *recipes_told(recipe_lines(runs), runs)):
        log.info("%s", line)


def _write(page: str, file: Path) -> None:
    from ...files.words import told_size
    from ...files.writing import write_text
    from ..console import log
    from ..outputs import Outputs

    with Outputs() as files:
        if files.write(file, lambda: write_text(file, page)):
            log.info("page: %s (%s)", file, told_size(len(page.encode())))
