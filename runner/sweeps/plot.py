"""The plot of a sweep: values over its first number, a line for each combination of the rest."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..evaluation.results import spread_of
from .points import Point
from .report import Swept

PANEL_IN = (5.0, 3.6)  # width, height
COLUMNS = 3
MOST_LINES = 12  # with names below the panels
LINE_IN = 0.24  # height of a row of names
EDGE_IN = 0.1  # room at both ends of it
DPI = 120
WIDE = 8.0  # values over a larger ratio are drawn on a logarithmic axis


def draw(swept: Swept, path: Path, title: str) -> None:
    """Write the plot.

    Args:
        swept: The sweep.
        path: A PNG file.
        title: Above it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = swept.names
    columns = min(len(names), COLUMNS)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(PANEL_IN[0] * columns, PANEL_IN[1] * rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, wrap=True)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, name in zip(panels, names, strict=False):
        _panel(panel, swept, name)
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    labels = panels[0].get_legend_handles_labels()
    if 1 < len(labels[0]) <= MOST_LINES:
        _name_lines(figure, *labels)
    figure.savefig(path, dpi=DPI)


def _name_lines(figure: Any, lines: Sequence[Any], names: Sequence[str]) -> None:
    """The names of the lines below the panels, as many side by side as the figure is wide; it gets room for them."""
    for columns in range(len(names), 0, -1):
        legend = figure.legend(lines, names, loc="outside lower center", ncols=columns, frameon=False)
        width_in = legend.get_window_extent(figure.canvas.get_renderer()).width / figure.dpi + 2 * EDGE_IN
        if width_in <= figure.get_figwidth() or columns == 1:
            break
        legend.remove()
    rows = -(-len(names) // columns)
    figure.set_size_inches(max(figure.get_figwidth(), width_in), figure.get_figheight() + LINE_IN * rows)


def _panel(panel: Any, swept: Swept, name: str) -> None:
    axis = first_number(swept.points)
    values = [one[name]["value"] for one in swept.results]
    spread = [spread_of(name, one) or 0.0 for one in swept.results]
    champion = swept.best(name)
    for label, members in _lines(swept.points, axis).items():
        places = [_place(swept.points, i, axis) for i in members]
        drawn = [values[i] for i in members], [spread[i] for i in members]
        panel.errorbar(places, drawn[0], drawn[1], marker="o", markersize=4, capsize=2, label=label or "samples")
        for place, i in zip(places, members, strict=True):
            if swept.points[i] is champion:
                panel.plot(place, values[i], marker="*", markersize=14, color="black", zorder=3)
    panel.set_title(name + (f" ({swept.better[name]} is better)" if name in swept.better else ""), fontsize=10)
    panel.grid(alpha=0.3)
    if min(values) > 0 and max(values) > WIDE * min(values):
        panel.set_yscale("log")
    _name_places(panel, swept.points, axis)


def _name_places(panel: Any, points: Sequence[Point], axis: str | None) -> None:
    """What stands below the panel: the numbers that were swept, or the points' names."""
    if axis is None:
        panel.set_xticks(range(len(points)), [point.name for point in points], rotation=20, ha="right", fontsize=8)
        return
    places = sorted({float(point.settings[axis]) for point in points})
    if places[0] > 0 and places[-1] > WIDE * places[0]:
        panel.set_xscale("log")
    panel.set_xticks(places, [f"{place:g}" for place in places])
    panel.minorticks_off()
    panel.set_xlabel(axis)


def first_number(points: Sequence[Point]) -> str | None:
    """The first key that has several values, all of them numbers."""
    for key in points[0].settings:
        values = {point.settings[key] for point in points}
        with contextlib.suppress(ValueError):
            if len({float(value) for value in values}) > 1:
                return key
    return None


def _lines(points: Sequence[Point], axis: str | None) -> dict[str, list[int]]:
    """The points of each line, by what they share."""
    if axis is None:
        return {"": list(range(len(points)))}
    lines: dict[str, list[int]] = {}
    for i, point in enumerate(points):
        rest = {key: value for key, value in point.settings.items() if key != axis}
        lines.setdefault(Point(rest, point.recipe).name, []).append(i)
    return {label: sorted(members, key=lambda i: _place(points, i, axis)) for label, members in lines.items()}


def _place(points: Sequence[Point], i: int, axis: str | None) -> float:
    return float(i) if axis is None else float(points[i].settings[axis])
