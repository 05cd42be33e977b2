"""What differs between runs: of their recipes, and of what they were made of and on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...registry.recipe import unequal
from .axes import told
from .runs import Run

NONE = "-"
SHOWN = {
    "network.parameters": "parameters",
    "dataset.name": "data set",
    "dataset.images": "training images",
    "machine.device": "device",
    "machine.ranks": "ranks",
    "version.dmf": "dmf",
    "version.torch": "torch",
}
LEFT_OUT = ("recipe.digest",)  # it differs wherever anything does


class Line(NamedTuple):
    """Something of each run.

    Attributes:
        name: What.
        values: One for each run.
        differs: Whether they are not all equal.
    """

    name: str
    values: Sequence[str]
    differs: bool


def recipe_lines(runs: Sequence[Run]) -> list[Line]:
    """The keys of the recipes that are not equal in all runs; the name is left out."""
    read = {k: run.recipe for k, run in enumerate(runs) if run.recipe is not None}
    found = unequal(list(read.values()))
    order = {k: place for place, k in enumerate(read)}
    return [
        Line(key, [values[order[k]] if k in order else NONE for k in range(len(runs))], True)
        for key, values in found.items()
        if key != "name"
    ]


def fact_lines(runs: Sequence[Run]) -> list[Line]:
    """What is always of interest, then what else is not equal in all runs."""
    training = {
        "steps": [_steps(run) for run in runs],
        "images seen": [_last(run, "images_seen") for run in runs],
        "images/s (median)": [_rate(run) for run in runs],
        "time in training": [_time(run) for run in runs],
        "loss (mean of the last tenth)": [_late(run, "loss") for run in runs],
        "steps passed over": [_last(run, "bad_steps") for run in runs],
    }
    always = {name: [_fact(run, key) for run in runs] for key, name in SHOWN.items()}
    rest = dict.fromkeys(key for run in runs for key in run.facts if key not in SHOWN and key not in LEFT_OUT)
    others = {key: [_fact(run, key) for run in runs] for key in rest}
    lines = [_line(name, values) for name, values in {**always, **training}.items()]
    return [*lines, *(_line(name, values) for name, values in others.items() if _differ(name, values))]


def _differ(name: str, values: Sequence[str]) -> bool:
    """Whether it says more than the recipes do: which runs have a part is told there."""
    return len({value for value in values if value != NONE or not name.startswith("part.")}) > 1


def _line(name: str, values: Sequence[str]) -> Line:
    return Line(name, values, len(set(values)) > 1)


def _fact(run: Run, key: str) -> str:
    text = run.facts.get(key, NONE)
    if text.isdecimal():
        return f"{int(text):,}"
    return f"{text[:12]}…" if len(text) >= 40 and text.isalnum() else text


def _steps(run: Run) -> str:
    return f"{run.step:,}" if run.recipe is None else f"{run.step:,} of {run.recipe.train.steps:,}"


def _values(run: Run, column: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    found = run.history.get(column, np.empty(0))
    return found[np.isfinite(found)]


def _last(run: Run, column: str) -> str:
    values = _values(run, column)
    return f"{int(values[-1]):,}" if len(values) else NONE


def _rate(run: Run) -> str:
    values = _values(run, "images_per_second")
    return f"{float(np.median(values)):,.{0 if np.median(values) >= 10 else 2}f}" if len(values) else NONE


def _late(run: Run, column: str) -> str:
    values = _values(run, column)
    return told(float(values[-max(1, len(values) // 10) :].mean())) if len(values) else NONE


def _time(run: Run) -> str:
    """That of the steps alone: pictures, checkpoints and evaluations are in no pace."""
    if "step_ms" not in run.history:
        return NONE
    seconds = round(float(np.nansum(np.diff(run.history["step"], prepend=0.0) * run.history["step_ms"])) / 1000)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds % 60:02} s" if minutes else f"{seconds} s"
