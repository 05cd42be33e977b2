"""Which checkpoints stay: the newest, every n-th, and the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...core import Way
from ...files.words import few
from ...files.writing import read_json, write_json
from ...registry import Recipe, UserError
from ...registry.recipe_types import Checkpoint as Options
from ..console import log
from .layout import discard, place, steps

POINTER = "best.json"


def check_best(recipe: Recipe) -> None:
    """Accept `checkpoint.best` before the training.

    Raises:
        UserError: There will be no values to choose by.
    """
    best = recipe.checkpoint.best
    if best not in (None, "loss") and recipe.evaluate.during.every == 0:
        raise UserError(
            f"checkpoint.best: {best} is measured by evaluations while training goes on, and this recipe has none: "
            "write evaluate.during.every, the number of images between two, or checkpoint.best: loss"
        )


def differing(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    """The keys whose values are not equal, or are in one alone."""
    return [key for key in {**a, **b} if a.get(key) != b.get(key)]


@dataclass(frozen=True)
class Verdict:
    """On a checkpoint.

    Attributes:
        metric: What was measured.
        step: When.
        value: The value.
        better: Which way values are better.
        protocol: What must be equal for another value to be compared with it.
    """

    metric: str
    step: int
    value: float
    better: Way
    protocol: Mapping[str, str] = field(default_factory=dict)

    def beats(self, before: Mapping[str, Any]) -> bool:
        """Whether it is better than the best so far; one of another metric or protocol is no measure."""
        if before["metric"] != self.metric:
            return True
        theirs = before.get("protocol")
        if isinstance(theirs, Mapping) and (changed := differing(theirs, self.protocol)):
            log.info(
                "the best %s so far, of step %d, was measured in another way (%s): step %d is held against no earlier "
                "one",
                *(self.metric, before["step"], few(changed), self.step),
            )
            return True
        return bool(self.value < before["value"] if self.better == "lower" else self.value > before["value"])


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


def note(folder: Path, verdict: Verdict) -> bool:
    """Point at a checkpoint as the best if it is better than the one that is; of equal ones the first stays.

    Args:
        folder: Of checkpoints.
        verdict: On one of them.

    Returns:
        Whether it is the best now.
    """
    if not math.isfinite(verdict.value) or not place(folder, verdict.step).is_dir():
        return False
    before = _best(folder)
    if before is not None and before["step"] != verdict.step and not verdict.beats(before):
        return False
    write_json(folder / POINTER, asdict(verdict))
    log.info("step %d: the best %s so far, %.5g", verdict.step, verdict.metric, verdict.value)
    return True


def _best(folder: Path) -> dict[str, Any] | None:
    found = read_json(folder / POINTER, metric=str, step=int, value=(int, float))
    return found if found is not None and place(folder, found["step"]).is_dir() else None
