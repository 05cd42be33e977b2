"""`dmf plugins`: every installed part, without importing any."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...registry import Part

HELP = "list every installed part with its summary, origin and health"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--check", action="store_true", help="really import each part, in a process of its own")
    parser.add_argument("kind", nargs="?", help="only this kind, for example sampler")


def execute(args: argparse.Namespace) -> int:
    """Run the command.

    Returns:
        0; with ``--check``, 1 when a part is broken.
    """
    from ...registry.discover import parts, unknown_limits
    from ...registry.kinds import kind_of

    found = parts(kind_of(args.kind).name if args.kind else None)
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
