"""Draws images/scans.png, the ways that scans take through the patches: ``python docs/plot_scans.py``."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from dmf.core import Scan
from dmf.core.scans import line_ends
from dmf.registry import build

FILE = Path(__file__).resolve().parent / "images" / "scans.png"
CORNERS = ("top_left", "top_right", "bottom_left", "bottom_right")
PANELS: list[tuple[str, dict[str, Any], tuple[int, int]]] = [
    ("raster", {}, (8, 8)),
    ("raster", {"reverse": True}, (8, 8)),
    ("column", {}, (8, 8)),
    ("column", {"reverse": True}, (8, 8)),
    ("hilbert", {}, (8, 8)),
    ("hilbert", {}, (7, 10)),
    *(("zigzag", {"corner": c, "along": along}, (8, 8)) for along in ("rows", "columns") for c in CORNERS),
]
COLUMNS = 7
JUMP = "0.75"


def draw() -> None:
    """A panel a scan."""
    figure, panels = plt.subplots(2, COLUMNS, figsize=(2.0 * COLUMNS, 4.9), layout="constrained")
    for panel, (name, options, (rows, columns)) in zip(panels.flat, PANELS, strict=True):
        path(panel, build("scan", name, **options), rows, columns)
        size = "" if (rows, columns) == (8, 8) else f", {rows} × {columns}"
        words = ["reverse" if key == "reverse" else value.replace("_", " ") for key, value in options.items()]
        panel.set_title("\n".join([name + size, ", ".join(words)]), fontsize=9)
    figure.savefig(FILE, dpi=110, metadata={"Software": None})


def path(panel: Axes, scan: Scan, rows: int, columns: int) -> None:
    """The way from patch to patch, dark to light from the dot on; thin where it jumps."""
    order = scan.order(rows, columns)
    y, x = (order // columns).tolist(), (order % columns).tolist()
    jumps = line_ends(order, columns).tolist()
    colours = plt.get_cmap("viridis")
    for k in range(len(order) - 1):
        style = {"color": JUMP, "linewidth": 0.6} if jumps[k] else {"color": colours(k / len(order)), "linewidth": 2.2}
        panel.plot(x[k : k + 2], y[k : k + 2], solid_capstyle="round", zorder=1 if jumps[k] else 2, **style)
    panel.plot(x[0], y[0], "o", color=colours(0.0), markersize=6, zorder=3)
    panel.set(xlim=(-0.6, columns - 0.4), ylim=(rows - 0.4, -0.6), xticks=[], yticks=[], aspect="equal")
    for spine in panel.spines.values():
        spine.set_color("0.85")


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    draw()
