"""The points of a sweep: every combination of the values on the command line, each with its recipe."""

from __future__ import annotations

import argparse
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...registry import Recipe, UserError, read
from ..average_rules import POSTHOC
from ..folder import RunFolder
from ..sampler_words import SAMPLER_KEYS, network_value

KEYS = {
    **{key: of for key, of in SAMPLER_KEYS.items() if key != "device"},
    "grid": "sampler.grid",
    "weights": "evaluate.weights",
    "length": "evaluate.weights",  # of an average that `dmf ema` made
}
MOST = 1000  # points: more are a slip of the keyboard


@dataclass(frozen=True)
class Point:
    """One of them.

    Attributes:
        settings: What was written for it, by the key that was written.
        recipe: The run's, with that.
    """

    settings: Mapping[str, str]
    recipe: Recipe

    @property
    def name(self) -> str:
        """As a person would call it: ``ddim steps=10 guidance=1.5``."""
        return " ".join(_word(key, value) for key, value in self.settings.items())


def axes(words: Sequence[str]) -> dict[str, list[str]]:
    """The values of each key, as written.

    Args:
        words: ``key=a,b,c``; a comma within brackets belongs to a value.

    Raises:
        UserError: A key that cannot be swept, or without values, or twice.
    """
    found: dict[str, list[str]] = {}
    for word in words:
        key, _, text = word.partition("=")
        if key not in KEYS and not re.fullmatch(r"sampler(\.\w+)+", key):
            raise UserError(
                f"--sweep {word}: {key!r} cannot be swept; give {', '.join(KEYS)}, or an option, as in "
                "sampler.churn=0,10; what holds for all points stands before --sweep"
            )
        values = [value.strip() for value in _split(text)]
        if key == "length":
            values = [_length(word, value) for value in values]
        if key in found or not all(values) or len(set(values)) < len(values):
            raise UserError(f"--sweep {word}: expected each key once, with different values, as in steps=10,20,50")
        found[key] = values
    return found


def points(words: Sequence[str], folder: RunFolder, overrides: Sequence[str]) -> list[Point]:
    """All combinations; the first key changes slowest, as in nested loops.

    Args:
        words: Those behind ``--sweep``.
        folder: The run's.
        overrides: Of the recipe, for all points.

    Raises:
        UserError: What cannot be swept, or a combination that the recipe does not take; it is named.
    """
    swept = axes(words)
    count = math.prod(len(values) for values in swept.values())
    if count > MOST:
        raise UserError(f"--sweep: {count} points are more than {MOST}; leave some values out")
    products = itertools.product(*swept.values())
    return [_point(dict(zip(swept, values, strict=True)), folder, overrides) for values in products]


def _point(settings: Mapping[str, str], folder: RunFolder, overrides: Sequence[str]) -> Point:
    try:
        words = [f"{KEYS.get(key, key)}={_value(key, value)}" for key, value in settings.items()]
        return Point(settings, read(folder.recipe, [*overrides, *words]))
    except (UserError, argparse.ArgumentTypeError) as error:
        name = " ".join(_word(key, value) for key, value in settings.items())
        raise UserError(f"--sweep: {name} is not possible:\n{error}") from error


def _value(key: str, text: str) -> str:
    """As the recipe has it."""
    if key == "length":
        return f"{POSTHOC}{text}"
    return network_value(text) if key == "away_from" else text


def _length(word: str, text: str) -> str:
    try:
        return f"{float(text):.15g}"
    except ValueError:
        raise UserError(f"--sweep {word}: {text!r} is no number; give lengths, as in length=0.05,0.1") from None


def _word(key: str, value: str) -> str:
    return value if key == "sampler" else f"{key}={value}"


def _split(text: str) -> list[str]:
    """The text at its commas, those within brackets left alone."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in "{[(") - (char in "}])")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts
