"""Which checkpoints stay: the newest, every n-th, and the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core import Way
from ...files.writing import read_json, write_json
from ...registry.recipe_types import Checkpoint as Options
from ..console import log
from .layout import discard, place, steps

POINTER = "best.json"


def staying(there: Sequence[int], options: Options, best: int | None) -> list[int]:
    """The steps whose checkpoints stay.

    Args:
        there: Steps that have one.
        options: Of the recipe.
        best: The step of the best one, which stays.
    """
    every = options.keep_every
    newest = sorted(there)[-options.keep :]
    return sorted(step for step in there if step in newest or step == best or (every and step % every == 0))


def prune(folder: Path, options: Options) -> None:
    """Remove the checkpoints that do not stay."""
    there = steps(folder)
    for step in set(there) - set(staying(there, options, best_step(folder))):
        discard(place(folder, step))


def best_step(folder: Path) -> int | None:
    """The step of the best checkpoint; None where none has been judged, or it is not there any more."""
    found = _best(folder)
    return None if found is None else found["step"]


def judge(folder: Path, metric: str, step: int, value: float, way: Way) -> bool:
    """Note a checkpoint as the best if it is better than the one that is; equal ones stay behind the first.

    Args:
        folder: Of checkpoints, which has that of ``step``.
        metric: What was measured.
        step: When.
        value: The value.
        way: Which way values are better.

    Returns:
        Whether it is the best now.
    """
    if not math.isfinite(value):
        return False
    before = _best(folder)
    if before is not None and before["metric"] == metric and before["step"] != step:
        worse = value >= before["value"] if way == "lower" else value <= before["value"]
        if worse:
            return False
    write_json(folder / POINTER, {"step": step, "metric": metric, "value": value, "better": way})
    log.info("step %d: the best %s so far, %.5g", step, metric, value)
    return True


def measured(metric: str, values: Mapping[str, float | None], ways: Mapping[str, Way]) -> tuple[float, Way] | None:
    """The value of a metric, and which way it is better; None where it is not there.

    Args:
        metric: Name of a value.
        values: By their names.
        ways: By the same names.
    """
    value, way = values.get(metric), ways.get(metric)
    return None if value is None or way is None else (value, way)


def _best(folder: Path) -> dict[str, Any] | None:
    found: dict[str, Any] | None = read_json(folder / POINTER)
    return found if found is not None and place(folder, found["step"]).is_dir() else None
