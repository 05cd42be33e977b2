"""Points of a sweep that are done: kept in the run's folder, so that a sweep goes on where it stopped, or grows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ... import __version__
from ...core import Way
from ...files.sheets import save_png
from ...files.writing import read_json, write_json
from ...registry import Recipe
from ..assemble import ReferenceModel
from ..console import log
from ..evaluation.results import Results
from ..folder import RunFolder
from ..weights import Weights
from ..world import World
from .points import Point
from .report import Swept

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


class Ledger:
    """The points of a sweep: where each is kept, and what is there of it; the same on every rank.

    Attributes:
        points: In their order.
        places: Of each.
        kept: The values of each, and which way they are better; None where there are none.
        left: Which points had none at the start.
        failed: Why points have none at the end, by their names.
    """

    def __init__(self, points: Sequence[Point], places: Sequence[Kept], world: World) -> None:
        self.points, self.places = points, places
        self.kept: list[tuple[Results, dict[str, Way]] | None] = world.tell([place.read() for place in places])
        self.left = [i for i, one in enumerate(self.kept) if one is None]
        self.failed: dict[str, str] = {}

    def there(self) -> list[tuple[int, Results, dict[str, Way]]]:
        """The points that have values, by their numbers, and those."""
        return [(i, *one) for i, one in enumerate(self.kept) if one is not None]

    def swept(self) -> Swept:
        """What the sweep gives."""
        there = self.there()
        better = {name: way for *_, ways in there for name, way in ways.items()}
        return Swept([self.points[i] for i, *_ in there], [found for _, found, _ in there], better, self.failed)

    def digest(self) -> str:
        """Of all its points: the same sweep again has the same."""
        names = "".join(place.folder.name for place in self.places)
        return hashlib.sha256(names.encode()).hexdigest()[:DIGITS]


def place_of(point: Point, folder: RunFolder, weights: Weights, guide: ReferenceModel | None, others: Any) -> Kept:
    """Where a point is kept: equal places, equal values.

    Args:
        point: It.
        folder: The run's.
        weights: That the point is made with.
        guide: The network that guides it, if one does.
        others: What else its values depend on, as JSON knows it.
    """
    made_of = [*of_recipe(point.recipe, weights, guide), others, __version__]
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:DIGITS]
    return Kept(folder.path / "sweeps" / "points" / digest)


def of_recipe(recipe: Recipe, weights: Weights, guide: ReferenceModel | None) -> list[Any]:
    """What values depend on of a recipe and the weights."""
    tree = recipe.as_dict()
    evaluate = {key: value for key, value in tree["evaluate"].items() if key not in ("during", "batch_size")}
    changed = {key: tree[key] for key in ("sampler", "schedule", "prediction", "codec", "dataset")}
    return [evaluate, changed, weights.sha256, None if guide is None else guide.about]


def _plain(point: Point) -> dict[str, Any]:
    return {"settings": dict(point.settings), "sampler": point.recipe.as_dict()["sampler"]}
