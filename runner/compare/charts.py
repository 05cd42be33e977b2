"""Curves of several runs in one chart, as paths of an SVG; a linear and a logarithmic face of each."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...files.words import few
from ..evaluation.results import SD
from .axes import Axis, Tick, around, told
from .boards import Notes
from .envelope import Thinned, thinned
from .runs import Floats, Run

WIDTH, HEIGHT = 2000, 1000  # of the paths; the page stretches them
DOTS, FEW = 60, 2  # points of a curve, at most, that are shown as dots too: of evaluations, and of what is logged
LOGGED = {"loss": "Loss", "gradient_norm": "Gradient norm", "learning_rate": "Learning rate"}


@dataclass(frozen=True)
class Curve:
    """One run's.

    Attributes:
        run: Its number.
        line: Path through the means.
        band: Path around all that these stand for; empty of a curve that has all its points.
        dots: Path of points; empty of a curve with many.
    """

    run: int
    line: str
    band: str
    dots: str


@dataclass(frozen=True)
class Face:
    """A chart on a linear or a logarithmic vertical axis."""

    log: bool
    ticks: Sequence[Tick]
    curves: Sequence[Curve]


@dataclass(frozen=True)
class Chart:
    """Curves by images seen.

    Attributes:
        title: What is drawn.
        ticks: Of the horizontal axis.
        faces: Linear, and logarithmic where there are values above 0.
        notes: What is to be known of the curves, a sentence each.
        table: For each run its number, last, least and greatest value, as texts.
        points: What the page shows where a reader points: for each run its number, and x and y of its curve.
    """

    title: str
    ticks: Sequence[Tick]
    faces: Sequence[Face]
    notes: Sequence[str]
    table: Sequence[tuple[int, str, str, str]]
    points: Sequence[dict[str, Any]]


def charts_of(runs: Sequence[Run], names: set[str]) -> list[Chart]:
    """Those of the logged values, and of evaluations while training.

    Args:
        runs: Whose curves.
        names: Of the values to show.
    """
    found = [_logged(runs, column, title) for column, title in LOGGED.items()]
    evaluated = dict.fromkeys(name for run in runs for point in run.points for name in point.results)
    shown = [name for name in evaluated if name in names and _is_value(name, evaluated)]
    return [chart for chart in [*found, *(_evaluated(runs, name) for name in shown)] if chart is not None]


def _is_value(name: str, others: Container[str]) -> bool:
    """Whether it is no spread of another: kernel_digits_sd_n1000 is that of kernel_digits_n1000."""
    start, end, images = name.rpartition("_n")
    whole, suffix = (start, end + images) if images.isdecimal() else (name, "")
    return not (whole.endswith(SD) and whole.removesuffix(SD) + suffix in others)


def _logged(runs: Sequence[Run], column: str, title: str) -> Chart | None:
    there = {
        k: (run.history["images_seen"], run.history[column]) for k, run in enumerate(runs) if column in run.history
    }
    return _chart(title, there, [], FEW)


def _evaluated(runs: Sequence[Run], name: str) -> Chart | None:
    there, notes, first = {}, Notes(), None
    for k, run in enumerate(runs):
        points = [(point.images_seen, point.results[name]) for point in run.points if name in point.results]
        if not points:
            continue
        first = first or (run.name, points[0][1]["protocol"])
        for _, result in points:
            notes.mark(run.name, *first, result["protocol"])
        there[k] = (np.array([x for x, _ in points]), np.array([float(result["value"]) for _, result in points]))
    without = [run.name for k, run in enumerate(runs) if run.points and k not in there]
    told = [f"Not measured while these were trained: {few(without)}."] if without else []
    return _chart(name, there, [*notes.texts(named=True), *told], DOTS)


def _chart(title: str, there: dict[int, tuple[Floats, Floats]], notes: list[str], dots: int) -> Chart | None:
    """The chart of x and y by the run's number, with dots where these are few; None without any value."""
    there = {k: xy for k, xy in there.items() if np.isfinite(xy[1]).any()}
    if not there:
        return None
    end = max(float(x[-1]) for x, _ in there.values()) or 1.0
    curves = {k: thinned(x, y, end) for k, (x, y) in there.items()}
    across = Axis(0.0, end)
    most = max(curve.each for curve in curves.values())
    if most > 1 and any(np.any(curve.greatest > curve.least) for curve in curves.values()):
        notes = [*notes, f"A line has the mean of up to {most:,} points, the band their least and greatest."]
    faces = [face for log in (False, True) if (face := _face(curves, across, log, dots)) is not None]
    table = [(k, told(_last(y)), told(np.nanmin(y)), told(np.nanmax(y))) for k, (_, y) in there.items()]
    points = [
        {"run": k, "x": [round(x) for x in c.x.tolist()], "y": [_short(y) for y in c.mean.tolist()]}
        for k, c in curves.items()
    ]
    return Chart(title, across.ticks(), faces, notes, table, points)


def _face(curves: dict[int, Thinned], across: Axis, log: bool, dots: int) -> Face | None:
    every = np.concatenate([part for c in curves.values() for part in (c.mean, c.least, c.greatest)])
    up = around(every, log)
    if up is None:
        return None
    return Face(log, up.ticks(), [_curve(k, c, across, up, dots) for k, c in curves.items()])


def _curve(run: int, c: Thinned, across: Axis, up: Axis, dots: int) -> Curve:
    x = across.place(c.x)
    line, bounds = up.place(c.mean), (up.place(c.least), up.place(c.greatest))
    few = np.isfinite(line).sum() <= dots
    return Curve(run, _path(x, line), _band(x, *bounds) if c.each > 1 else "", _dots(x, line) if few else "")


def _path(x: Floats, y: Floats) -> str:
    """A line that leaves out what is NaN."""
    there, words = np.isfinite(y), []
    for k in np.flatnonzero(there):
        words.append(f"{'L' if k and there[k - 1] else 'M'}{_at(x[k], y[k])}")
    return "".join(words)


def _dots(x: Floats, y: Floats) -> str:
    """Lines of no length: with round ends they are dots, whichever way the picture is stretched."""
    return "".join(f"M{_at(x[k], y[k])}h0" for k in np.flatnonzero(np.isfinite(y)))


def _band(x: Floats, least: Floats, greatest: Floats) -> str:
    """Around all values; on a logarithmic axis a part that has no place there ends at the bottom."""
    parts = []
    for piece in np.split(np.arange(len(x)), np.flatnonzero(~np.isfinite(greatest))):
        inside = piece[np.isfinite(greatest[piece])]
        if len(inside) > 1:
            below = np.nan_to_num(least[inside], nan=0.0)
            there = [_at(x[k], greatest[k]) for k in inside]
            back = [_at(x[k], low) for k, low in zip(inside[::-1], below[::-1], strict=True)]
            parts.append(f"M{'L'.join([*there, *back])}z")
    return "".join(parts)


def _at(x: float, y: float) -> str:
    return f"{x * WIDTH:.0f},{(1 - y) * HEIGHT:.0f}"


def _last(y: Floats) -> float:
    return float(y[np.isfinite(y)][-1])


def _short(y: float) -> float | None:
    return float(f"{y:.5g}") if np.isfinite(y) else None
