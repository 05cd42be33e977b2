"""Points of a sweep that are done: kept in the run's folder, so that a sweep goes on where it stopped, or grows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ... import __version__
from ...core import Way
from ...files.sheets import save_png
from ...files.writing import read_json, write_json
from ...registry import Recipe
from ..console import log
from ..evaluation.results import Results
from ..folder import RunFolder
from ..reference import reference_digest
from ..weights import find_weights
from .points import Point

DIGITS = 16


@dataclass(frozen=True)
class Kept:
    """A point's place in ``sweeps/points``.

    Attributes:
        folder: Its own.
    """

    folder: Path

    @property
    def file(self) -> Path:
        """Its values."""
        return self.folder / "results.json"

    @property
    def grid(self) -> Path:
        """Its first images."""
        return self.folder / "grid.png"

    def read(self) -> tuple[Results, dict[str, Way]] | None:
        """The values, and which way they are better; None where the point is not done, or its file is damaged."""
        try:
            found = read_json(self.file)
            return None if found is None else (found["results"], found["better"])
        except (ValueError, KeyError, TypeError):
            log.warning("%s is damaged: the point is scored anew", self.file)
            return None

    def write(self, point: Point, results: Results, better: dict[str, Way], grid: Tensor | None) -> None:
        """Keep them; the values last, which say that it is done."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if grid is not None:
            save_png(grid, self.grid)
        write_json(self.file, {"point": point.name, **_plain(point), "results": results, "better": better})


def place_of(point: Point, folder: RunFolder, others: Any) -> Kept:
    """Where a point is kept: equal places, equal values.

    Args:
        point: It.
        folder: The run's.
        others: What else its values depend on, as JSON knows it.
    """
    made_of = [*of_recipe(point.recipe, folder), others, __version__]
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:DIGITS]
    return Kept(folder.path / "sweeps" / "points" / digest)


def of_recipe(recipe: Recipe, folder: RunFolder) -> list[Any]:
    """What values depend on of a recipe and the weights."""
    tree = recipe.as_dict()
    evaluate = {key: value for key, value in tree["evaluate"].items() if key not in ("during", "batch_size")}
    changed = {key: tree[key] for key in ("sampler", "schedule", "prediction", "codec", "dataset")}
    weights = find_weights(folder, recipe.evaluate.weights).sha256
    return [evaluate, changed, weights, reference_digest(recipe, folder)]


def _plain(point: Point) -> dict[str, Any]:
    return {"settings": dict(point.settings), "sampler": point.recipe.as_dict()["sampler"]}
