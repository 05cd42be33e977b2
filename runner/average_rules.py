"""The averages of a recipe, and what weights are called by them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..core import Average
from ..registry import Recipe, UserError, build
from ..registry.words import did_you_mean

POSTHOC = "posthoc-"
"""What begins the names of averages that were made after a training; the rest is their length."""
NUMBER = re.compile(r"\d*\.?\d+(?:e[+-]?\d+)?")


def average_rules(recipe: Recipe) -> list[Average]:
    """The averages that a training keeps, in their order.

    Raises:
        UserError: Two cannot be told apart.
    """
    rules: list[Average] = [build("average", ref.name, **ref.options) for ref in recipe.train.ema]
    labels = [rule.label for rule in rules]
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise UserError(f"train.ema: {', '.join(sorted(twice))} stands there more than once; leave one out")
    return rules


def named(wanted: str, there: Iterable[str]) -> str:
    """The label that is meant, its numbers however written: ``power-0.10`` is ``power-0.1``; as it is where none is.

    Args:
        wanted: What somebody wrote.
        there: The labels there are.
    """
    return next((label for label in there if in_numbers(label) == in_numbers(wanted)), wanted)


def in_numbers(label: str) -> str:
    """A label with its numbers in the one way in which labels have them."""
    return NUMBER.sub(lambda found: f"{float(found[0]):.15g}", label)


def check_weights(recipe: Recipe, to_train: bool = False) -> None:
    """Accept the weights that are to be scored.

    Args:
        recipe: The run's.
        to_train: Whether they are still to be made.

    Raises:
        UserError: The training keeps no such average.
    """
    labels, wanted = [rule.label for rule in average_rules(recipe)], recipe.evaluate.weights
    if wanted.startswith(POSTHOC):
        if to_train and recipe.evaluate.images:
            raise UserError(
                f"evaluate.weights: {wanted} is made by `dmf ema` after the training; write ema, and score it then: "
                f"dmf evaluate {recipe.name} --weights {wanted}"
            )
    elif named(wanted, labels) not in ("raw", "ema", *labels):
        there = ["raw", "ema", *labels]
        raise UserError(
            f"evaluate.weights: train.ema keeps no average called {wanted!r}{did_you_mean(wanted, there)}; there are "
            f"{', '.join(there)}"
        )
