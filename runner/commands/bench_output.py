"""What the subjects of `dmf bench` share: which of their contests, and where the figures go."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...registry.errors import UserError
from ..outputs import Outputs
from .flags import check_writable


def add_output(parser: argparse.ArgumentParser) -> None:
    """The flags of where the figures go."""
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the tables into a page that has the marks")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")


def check_output(args: argparse.Namespace) -> None:
    """Refuse a page or a file that cannot be written, before the long work.

    Raises:
        UserError: Saying why not.
    """
    from ...testing.bench.page import check_page

    check_writable(args.json)
    check_writable(args.page)
    if args.page is not None:
        check_page(args.page, args.subject)


def put_out(args: argparse.Namespace, text: str, figures: Any) -> None:
    """Show the tables, and write them and every figure where the flags say."""
    from ...testing.bench.page import into_page

    print(text)
    with Outputs() as files:
        if args.page is not None:
            files.write(args.page, lambda: into_page(args.page, args.subject, text))
        if args.json is not None:
            files.write(args.json, lambda: args.json.write_text(json.dumps(figures, indent=1), encoding="utf-8"))


def chosen(text: str | None, known: Sequence[str], flag: str, what: str) -> list[str]:
    """The names in a list with commas; all that are known without one.

    Args:
        text: What was given.
        known: Names there are.
        flag: That it was given by.
        what: That has such a name.

    Raises:
        UserError: One is not known.
    """
    from ...registry.words import unknown

    names = list(known) if text is None else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise UserError(f"{flag}: {unknown(what, name, known)}")
    return names
