"""Reads ``sampler:ddim,eta=0.5``: which parts are to be checked, and in which setting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..registry import RecipeError, UserError, find, kind_of, load, parts
from ..registry.errors import PartError
from ..registry.options import check
from ..registry.yaml12 import parse_value
from .contracts import Case, cases

FORM = "expected KIND, KIND:NAME or KIND:NAME,OPTION=VALUE"


def read(text: str) -> list[Case]:
    """The checks that one ``--dmf-part`` asks for.

    Raises:
        UserError: There is no such kind, part or option, or a value that is not YAML.
    """
    head, *rest = _pieces(text)
    kind, colon, name = head.partition(":")
    known = kind_of(kind).name
    if not colon:
        if rest:
            raise UserError(f"{text!r} gives options to all of a kind; {FORM}")
        return [case for part in parts(known) for case in cases(known, part.name)]
    options = dict(_option(piece, text) for piece in rest)
    find(known, name)
    _refuse(known, name, options)
    return cases(known, name, options)


def _option(piece: str, text: str) -> tuple[str, Any]:
    key, equals, value = piece.partition("=")
    if not equals or not key.strip():
        raise UserError(f"{text!r} has {piece!r} where an option stands; {FORM}")
    try:
        return key.strip(), parse_value(value)
    except RecipeError as error:
        raise UserError(f"the value of {piece!r} is {str(error).partition(': ')[2]}") from error


def _refuse(kind: str, name: str, options: dict[str, Any]) -> None:
    """`UserError` for options that the part does not take; a part that is broken is left to its checks."""
    try:
        target = load(kind, name)
    except PartError:
        return
    wrong = check(target, kind, options) if options else []
    if wrong:
        raise UserError("; ".join(problem.of_part(f"{kind} {name!r}") for problem in wrong))


def _pieces(text: str) -> list[str]:
    """The text cut at its commas, but not at those inside brackets or quotes."""
    return list(_cut(text))


def _cut(text: str) -> Iterator[str]:
    depth, quote, piece = 0, "", ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        depth += (letter in "[{") - (letter in "]}") if not quote else 0
        if letter == "," and not depth and not quote:
            yield piece
            piece = ""
        else:
            piece += letter
    yield piece
