"""What the folder of a run says of it, however far the run has come; what cannot be read is named, and left out."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jsonschema import Draft202012Validator
from numpy.typing import NDArray

from ...files.progress import Progress
from ...registry import Recipe, UserError, read
from ...registry.words import did_you_mean
from ..evaluation.results import Results, schema
from ..folder import RunFolder
from .lines import rows

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Report:
    """The results of one evaluation.

    Attributes:
        file: Where they were read.
        results: By name.
        own: Whether this is the evaluation that the recipe asks for.
    """

    file: Path
    results: Results
    own: bool = False


@dataclass(frozen=True)
class Point:
    """An evaluation while training goes on.

    Attributes:
        images_seen: By training, before it.
        results: By name; a value that could not be had is NaN.
        failed: Why there are none; empty if there are.
    """

    images_seen: float
    results: Results
    failed: str = ""


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
        name: What it is called beside the others.
        folder: Where it lies.
        recipe: What it is; None if that cannot be read.
        facts: What it was made of and on, by name; empty of one that never began.
        history: A column for each logged value, (points,), NaN where there is none; ``images_seen`` is one of them.
        points: Evaluations while training went on, in order.
        reports: Evaluations of the trained network, the recipe's own first, points of sweeps last.
        troubles: What could not be read, a sentence each.
    """

    name: str
    folder: Path
    recipe: Recipe | None
    facts: Mapping[str, str]
    history: Mapping[str, Floats]
    points: Sequence[Point]
    reports: Sequence[Report]
    troubles: Sequence[str]

    @property
    def step(self) -> int:
        """The last that was logged; 0 before."""
        steps = self.history.get("step")
        return 0 if steps is None else int(steps[-1])


def read_runs(folders: Sequence[RunFolder]) -> list[Run]:
    """All of them, by names that tell them apart.

    Raises:
        UserError: One is named twice.
    """
    places = [folder.path.resolve() for folder in folders]
    for place, times in Counter(places).items():
        if times > 1:
            raise UserError(f"{place.name} is named {times} times; a run is compared with others: name each once")
    called = Counter(place.name for place in places)
    found = []
    with Progress("read runs", len(folders)) as bar:
        for folder, place in zip(folders, places, strict=True):
            found.append(read_run(folder, place.name if called[place.name] == 1 else str(folder.path)))
            bar.step()
    return found


def read_run(folder: RunFolder, name: str) -> Run:
    """One run.

    Args:
        folder: Its folder.
        name: What to call it.
    """
    troubles: list[str] = []
    points = list(rows(folder.path / "evaluations.jsonl", _point, troubles))
    troubles += [f"no values after {point.images_seen:,.0f} images: {point.failed}" for point in points if point.failed]
    return Run(
        name,
        folder.path,
        _recipe(folder.recipe, troubles),
        _facts(folder.facts, troubles),
        _history(folder.history, troubles),
        points,
        _reports(folder, troubles),
        troubles,
    )


def chosen(runs: Sequence[Run], wanted: Sequence[str]) -> set[str]:
    """The names of values that were asked for; all there are, if none was.

    Args:
        runs: That have them.
        wanted: Names, or the beginnings of names.

    Raises:
        UserError: No run has such a value.
    """
    reported = {name for run in runs for report in run.reports for name in report.results}
    known = sorted(reported | {name for run in runs for point in run.points for name in point.results})
    for word in wanted:
        if not any(name.startswith(word) for name in known):
            there = f"they have {', '.join(known)}" if known else "they have none: dmf evaluate RUN makes some"
            raise UserError(f"--metrics: these runs have no value {word!r}{did_you_mean(word, known)}; {there}")
    return {name for name in known if not wanted or name.startswith(tuple(wanted))}


def _recipe(path: Path, troubles: list[str]) -> Recipe | None:
    try:
        return read(path)
    except UserError as error:
        troubles.append(f"{path.name}: cannot be read by this dmf, so that what differs is told without it: {error}")
        return None


def _facts(path: Path, troubles: list[str]) -> dict[str, str]:
    found = _json(path, troubles, path.name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        troubles.append(f"{path.name}: left out: expected a mapping of texts")
        return {}
    return {str(name): str(value) for name, value in found.items()}


def _history(path: Path, troubles: list[str]) -> dict[str, Floats]:
    columns: dict[str, list[float]] = {}
    for count, row in enumerate(rows(path, _logged, troubles)):
        for name in row.keys() - columns.keys():
            columns[name] = [math.nan] * count
        for name, values in columns.items():
            values.append(row.get(name, math.nan))
    return {name: np.array(values) for name, values in columns.items()}


def _logged(line: Any) -> dict[str, float]:
    values = {name: _number(value) for name, value in line["values"].items()}
    return {**values, "step": float(line["step"]), "images_seen": float(line["values"]["images_seen"])}


def _point(line: Any) -> Point:
    results = {name: {**one, "value": _number(one["value"])} for name, one in line["results"].items()}
    if problem := _problem(results):
        raise ValueError(problem)
    return Point(float(line["images_seen"]), results, str(line.get("failed", "")))


def _number(value: Any) -> float:
    """That of a line, where null is no number."""
    return math.nan if value is None else float(value)


def _reports(folder: RunFolder, troubles: list[str]) -> list[Report]:
    points = sorted((folder.path / "sweeps" / "points").glob("*/results.json"), key=lambda path: path.stat().st_mtime)
    found = []
    for file in (folder.metrics, *sorted((folder.path / "evaluation").glob("*.json")), *points):
        shown = str(file.relative_to(folder.path))
        results = _json(file, troubles, shown)
        if results is None:
            continue
        if file in points and isinstance(results, dict):
            results = results.get("results")
        if problem := _problem(results):
            troubles.append(f"{shown}: left out: no results of an evaluation: {problem}")
        else:
            found.append(Report(file, results, file == folder.metrics))
    return found


def _json(path: Path, troubles: list[str], shown: str) -> Any:
    """The value of a file; None when there is no file, or no JSON in it."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    except (OSError, ValueError) as error:
        troubles.append(f"{shown}: left out: {_why(error)}")
        return None


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {(error.strerror or str(error)).lower()}"
    return f"is no JSON: {error}"


def _problem(results: Any) -> str:
    """What keeps a value from being `Results`; empty for nothing."""
    for error in _validator().iter_errors(results):
        return f"{error.message[:200]} at {error.json_path}"
    return ""


@lru_cache(maxsize=1)
def _validator() -> Draft202012Validator:
    return Draft202012Validator(schema())
