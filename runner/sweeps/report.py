"""What a sweep gives: a table with the best marked, and the same as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...core import Way
from ..evaluation.better import best
from ..evaluation.results import Results, is_spread, with_spread
from ..tables import table
from .points import Point

MARK = " *"


@dataclass(frozen=True)
class Swept:
    """A sweep that is done.

    Attributes:
        points: Those that have their values, in their order.
        results: Of each.
        better: Which way a value is better, by its name.
        failed: Why other points have no values, by their names.
    """

    points: Sequence[Point]
    results: Sequence[Results]
    better: Mapping[str, Way]
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The values that every point has, without those that say how another one spreads."""
        names = [name for name in next(iter(self.results), {}) if all(name in one for one in self.results)]
        return [name for name in names if not is_spread(name, names)]

    def best(self, name: str) -> Point | None:
        """The best point by a value; None where the value is not better either way."""
        if name not in self.better:
            return None
        values = {str(i): one[name]["value"] if name in one else None for i, one in enumerate(self.results)}
        found = best(values, self.better[name])
        return None if found is None else self.points[int(found)]

    def champions(self) -> dict[str, Point]:
        """The best point by each value that every point has; of a lone point nothing is said."""
        found = {name: self.best(name) for name in self.names} if len(self.points) > 1 else {}
        return {name: point for name, point in found.items() if point is not None}

    def table(self) -> str:
        """A line a point, the best by each value marked."""
        champions = self.champions()
        rows = [[*point.settings, *self.names] for point in self.points[:1]]
        for point, results in zip(self.points, self.results, strict=True):
            marks = {name: MARK if champions.get(name) is point else "" for name in self.names}
            cells = [with_spread(name, results) + marks[name] for name in self.names]
            rows.append([*point.settings.values(), *cells])
        lines = list(table(rows))
        said = [f"{name} {self.better[name]}" for name in champions]
        lines += [f"* the best ({', '.join(said)} is better)"] if said else []
        return "\n".join([*lines, *(f"no values of {name}: {why}" for name, why in self.failed.items())])

    def as_dict(self) -> dict[str, Any]:
        """As JSON: the points with their settings and results, the best by each value, and what failed."""
        return {
            "points": [
                {"name": point.name, "settings": dict(point.settings), "results": results}
                for point, results in zip(self.points, self.results, strict=True)
            ],
            "better": {name: way for name, way in self.better.items() if name in self.names},
            "best": {name: point.name for name, point in self.champions().items()},
            "failed": dict(self.failed),
        }
