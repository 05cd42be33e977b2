"""`dmf plugins show`: all about one part; of a backbone also its size and work for images of a given shape."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ...registry.errors import UserError
from .flags import option

if TYPE_CHECKING:
    from ...registry import Part

SHAPE = (3, 32, 32)
WIDTH = 100
UNITS = (("GFLOP", 1e9), ("MFLOP", 1e6), ("kFLOP", 1e3))


def execute(words: Sequence[str], args: argparse.Namespace) -> int:
    """Show the part that the words name."""
    from ...registry.discover import load

    part, options = _wanted(words)
    if part.kind != "backbone" and (args.shape or args.classes is not None):
        raise UserError(f"--shape and --classes are for a backbone; {part.kind} {part.name!r} has no use for them")
    about = _about(part, load(part), options)
    found = None
    if part.kind == "backbone":
        found = _network(part, options, args.shape or SHAPE, args.classes or 0)
    if args.json:
        print(json.dumps({**about, **({"network": found[1]} if found else {})}, indent=2))
    else:
        print("\n".join([*_head(about), *_options(about["options"]), *(_body(*found) if found else [])]))
    return 0


def _wanted(words: Sequence[str]) -> tuple[Part, dict[str, Any]]:
    """The part, and the options given."""
    from ...registry.discover import find, parts
    from ...registry.words import got

    form = "expected `dmf plugins show KIND:NAME option=value ...`, as backbone:dit"
    named = [word for word in words if "=" not in word]
    if len(named) != 1:
        raise UserError(f"got {len(named)} parts to show{': ' if named else ''}{' '.join(named)}; {form}")
    kind, colon, name = named[0].partition(":")
    if not colon:
        like = [f"{p.kind}:{p.name}" for p in parts() if p.name == kind]
        raise UserError(f"got {got(kind)} for a part; {f'did you mean {like[0]}?' if like else form}")
    return find(kind, name), dict(option(word) for word in words if "=" in word)


def _about(part: Part, target: Any, options: dict[str, Any]) -> dict[str, Any]:
    """What is known of any part, in values of JSON."""
    from ...registry import PartError, describe
    from ...registry.options import check, schema
    from ...registry.words import expected

    wrong = [p for p in check(target, part.kind, options) if not p.path or p.path[0] in options]
    if wrong:
        raise PartError("\n".join(p.of_part(f"{part.kind} {part.name!r}") for p in wrong))
    found = schema(target, part.kind)
    rows = []
    for name, below in found["properties"].items():
        row = {"name": name, "takes": expected(below), "meaning": below.get("description", "")}
        row |= {"default": below["default"]} if "default" in below else {}
        rows.append(row | ({"given": options[name]} if name in options else {}))
    return {
        "kind": part.kind,
        "name": part.name,
        "summary": describe(part).summary,
        "distribution": part.distribution,
        "version": part.version,
        "target": part.target,
        "options": rows,
        "schema": found,
    }


def _network(part: Part, options: dict[str, Any], shape: tuple[int, ...], classes: int) -> tuple[str, dict[str, Any]]:
    """A line on the data, and the measured network."""
    from ...core import DataSpec
    from ...registry import build
    from ..anatomy import anatomy

    try:
        spec = DataSpec(shape, tuple(map(str, range(classes))))
    except ValueError as error:
        raise UserError(f"--shape: {error}") from error
    data = f"{_shape(shape)}, {f'{classes} classes' if classes else 'no classes'}"
    try:
        found = anatomy(lambda seen: build("backbone", part.name, seen, **options), spec)
    except UserError as error:
        raise UserError(f"for images {data} (--shape, --classes): {error}") from error
    return data, {"shape": shape, "classes": classes, **asdict(found)}


def _head(about: dict[str, Any]) -> Iterator[str]:
    yield f"{about['kind']}:{about['name']}  {_plain(about['summary'])}"
    yield f"{about['distribution']} {about['version']}, {about['target']}"


def _options(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Two lines an option: what stands there and may, and what it means."""
    from ...registry.yaml12 import written

    yield from ("", "options" if rows else "no options")
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        default = written(row["default"]) if "default" in row else "required"
        value = f"{written(row['given'])} (given; default {default})" if "given" in row else default
        yield f"  {row['name'].ljust(width)}  {value}; {row['takes']}"
        yield from textwrap.wrap(
            _plain(row["meaning"]), WIDTH, initial_indent=" " * (width + 4), subsequent_indent=" " * (width + 4)
        )


def _body(data: str, found: dict[str, Any]) -> Iterator[str]:
    """A measured network for people."""
    fixed = found["parameters"] - found["trained"]
    blocks = ", ".join(f"{count} x {name}" for name, count in found["blocks"].items())
    yield from ("", f"network for images {data}")
    yield f"  output      {_shape(found['output'])}"
    yield f"  parameters  {found['parameters']:,}, {f'of which {fixed:,} fixed' if fixed else 'all trained'}"
    width = max(map(len, found["children"]), default=0)
    yield from (f"    {name.ljust(width)}  {number:>13,}" for name, number in found["children"].items() if number)
    yield f"  blocks      {blocks or 'none'}; {found['block_parameters']:,} parameters"
    yield f"  work        {_work(found['flops'])} a forward pass of one image, a multiply-add counted as two"
    yield "              (torch counts matrix products, convolutions, attention, and the scans of state-space"
    yield "              layers by a formula of ours; papers often count a multiply-add as one, which makes"
    yield f"              {_work(found['flops'] / 2)})"


def _work(flops: float) -> str:
    """In the largest unit, up to GFLOP, of which there is one: a small network's work is no 0.000 GFLOP."""
    unit, one = next(((unit, one) for unit, one in UNITS if flops >= one), UNITS[-1])
    return f"{flops / one:,.3f} {unit}"


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _plain(text: str) -> str:
    return text.replace("`", "")
