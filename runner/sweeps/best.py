"""Writing the best setting of a sweep into the run: from then on `dmf sample RUN` uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ...core import Way
from ...files.writing import write_text
from ...registry import Recipe, UserError, differences, read
from ...registry.recipe_types import plain
from ...registry.words import did_you_mean
from ...registry.yaml12 import dump
from ..console import log
from ..evaluation.results import Results
from ..folder import RunFolder
from .points import Point


def check_best(name: str, results: Results, better: Mapping[str, Way]) -> None:
    """Accept the value by which the best is chosen, as soon as there is a point.

    Args:
        name: Of the value.
        results: Of a point.
        better: Which way its values are better.

    Raises:
        UserError: The point has no such value, or it is not better either way.
    """
    if name in results and name in better:
        return
    able = [one for one in results if one in better]
    meant = did_you_mean(name, able).removesuffix("?")
    raise UserError(
        f"--write-best {name}: no value of that name has a best{meant}; those that have: {', '.join(able) or 'none'}"
    )


def write_best(point: Point, folder: RunFolder) -> None:
    """Make a point's sampler and weights the run's; the recipe that was there is kept aside, and what changed is said.

    Args:
        point: The best.
        folder: The run's, held.
    """
    old = read(folder.recipe)
    new = _with(old, point)
    changed = differences(old, new)
    if not changed:
        log.info("the best setting is the run's own: %s", point.name)
        return
    aside = _free(folder)
    write_text(aside, old.to_yaml())
    write_text(folder.recipe, new.to_yaml())
    log.info("written to %s, what was there is kept as %s:\n  %s", folder.recipe, aside.name, "\n  ".join(changed))
    log.info(
        "`dmf sample` uses it from now on%s; `dmf run` goes by your own recipe: write it there too\n%s",
        "" if point.recipe.evaluate.weights == "ema" else f" with --weights {point.recipe.evaluate.weights}",
        dump({"sampler": plain(new.sampler)}).rstrip(),
    )


def _with(old: Recipe, point: Point) -> Recipe:
    evaluate = replace(old.evaluate, weights=point.recipe.evaluate.weights)
    return replace(old, sampler=point.recipe.sampler, evaluate=evaluate)


def _free(folder: RunFolder) -> Path:
    """Where the old recipe is kept: ``recipe.1.yaml`` or the next free number."""
    number = 1
    while (aside := folder.path / f"recipe.{number}.yaml").exists():
        number += 1
    return aside
