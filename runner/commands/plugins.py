"""`dmf plugins`: every installed part, without importing any."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from ...registry.errors import UserError
from . import plugins_show
from .flags import natural, shape

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...registry import Part

HELP = "list every installed part with its summary, origin and health; show all about one"
USAGE = """\
dmf plugins [KIND] [--check] [--json]
       dmf plugins show KIND:NAME [OPTION=VALUE ...] [--shape C,H,W] [--classes K] [--json]"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.usage = USAGE
    parser.add_argument(
        "words",
        nargs="*",
        metavar="KIND",
        help="only this kind, for example sampler; show KIND:NAME tells all about one part: origin, options, and of a "
        "backbone, with the options given, its parameters, blocks and work",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--check", action="store_true", help="really import each part, in a process of its own")
    parser.add_argument(
        "--shape", type=shape, metavar="C,H,W", help="of the images that a shown backbone is for (default: 3,32,32)"
    )
    parser.add_argument("--classes", type=natural, metavar="K", help="of these images (default: 0, unlabelled)")


def execute(args: argparse.Namespace) -> int:
    """Run the command.

    Returns:
        0; with ``--check``, 1 when a part is broken.
    """
    if args.words[:1] == ["show"]:
        if args.check:
            raise UserError(
                "--check is for the list: dmf plugins KIND --check; to hold one part to its contract: "
                "pytest --dmf-part KIND:NAME"
            )
        return plugins_show.execute(args.words[1:], args)
    _check_words(args)
    return _list(args)


def _check_words(args: argparse.Namespace) -> None:
    """Refuse what is said for `show` alone."""
    if len(args.words) > 1 or any(":" in word or "=" in word for word in args.words):
        raise UserError(f"got {' '.join(args.words)}, expected one kind of part, or: dmf plugins show KIND:NAME")
    if args.shape or args.classes is not None:
        raise UserError("--shape and --classes are for one backbone: dmf plugins show backbone:NAME --shape C,H,W")


def _list(args: argparse.Namespace) -> int:
    from ...registry.discover import parts, unknown_limits
    from ...registry.kinds import kind_of

    found = parts(kind_of(args.words[0]).name if args.words else None)
    for name in unknown_limits():
        print(f"warning: DMF_PLUGINS names {name}, which is not installed", file=sys.stderr)
    rows = _rows(found, args.check)
    print(json.dumps(rows, indent=2) if args.json else _table(rows))
    return 1 if args.check and any(row["problem"] for row in rows) else 0


def _rows(found: Iterable[Part], check: bool) -> list[dict[str, str | None]]:
    from ...registry.summary import describe

    listed = list(found)
    problems = _checked(listed) if check else {}
    rows = []
    for part in listed:
        seen = describe(part)
        rows.append(
            {
                "kind": part.kind,
                "name": part.name,
                "summary": seen.summary.replace("`", ""),
                "distribution": part.distribution,
                "version": part.version,
                "target": part.target,
                "problem": problems.get(part) or seen.problem,
            }
        )
    return rows


def _checked(found: list[Part]) -> dict[Part, str | None]:
    from tqdm import tqdm

    from ...registry.check import check

    return dict(tqdm(check(found), total=len(found), desc="importing", disable=not sys.stderr.isatty()))


def _table(rows: list[dict[str, str | None]]) -> str:
    """One block a kind; a broken part is marked, with its module and the reason below."""
    width = max((len(str(row["name"])) for row in rows), default=0)
    lines: list[str] = []
    kind = None
    for row in rows:
        if row["kind"] != kind:
            kind = row["kind"]
            lines += ["", f"{kind}"] if lines else [f"{kind}"]
        origin = "" if row["distribution"] == "dmf" else f"  [{row['distribution']} {row['version']}]"
        mark = "BROKEN  " if row["problem"] else ""
        lines.append(f"  {str(row['name']).ljust(width)}  {mark}{row['summary']}{origin}")
        if row["problem"]:
            lines.append(f"  {' ' * width}  {row['target']}: {row['problem']}")
    return "\n".join(lines)
