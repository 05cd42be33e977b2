"""Draws images/schedules.png, log SNR against time for every schedule of dmf: ``python docs/plot_schedules.py``."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import torch
from matplotlib import pyplot as plt

from dmf.registry import build

FILE = Path(__file__).resolve().parent / "images" / "schedules.png"
Lines = list[tuple[str, str, dict[str, Any]]]
TABLES: Lines = [
    ("dns", "dns", {}),
    ("scaled_linear", "scaled_linear", {}),
    ("scaled_linear, zero_terminal_snr", "scaled_linear", {"zero_terminal_snr": True}),
    ("linear", "linear", {}),
    ("cosine", "cosine", {}),
    ("dnst", "dnst", {}),
]
CONTINUOUS: Lines = [
    ("sigmoid", "sigmoid", {}),
    ("cosine_vp", "cosine_vp", {}),
    ("flow", "flow", {}),
    ("flow, shift 3", "flow", {"shift": 3.0}),
    ("vp", "vp", {}),
    ("ve", "ve", {}),
    ("edm, over t / 80", "edm", {}),
]
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000"]  # Okabe and Ito's, told apart by all


def draw() -> None:
    """Two panels: tables of 1000 steps, continuous time."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 5), sharey=True, layout="constrained")
    for panel, title, lines in zip(panels, ("tables, T = 1000", "continuous time"), (TABLES, CONTINUOUS), strict=True):
        panel.set(title=title, xlabel="t, clean to noisy", xlim=(-0.015, 1.015), ylim=(-20.5, 20.5))
        panel.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        colours = iter(COLOURS)
        for label, name, options in lines:
            colour = panel.lines[-1].get_color() if options else next(colours)
            panel.plot(*points(name, options), label=label, color=colour, linestyle="--" if options else "-")
        panel.legend(loc="upper right", frameon=False, fontsize=9)
    panels[0].set_ylabel("log SNR, ln(α² / σ²)")
    figure.savefig(FILE, dpi=110, metadata={"Software": None})


def points(name: str, options: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Time as a part of the range, and log SNR; dense at both ends, where it changes fast."""
    schedule = build("schedule", name, **options)
    noisiest, cleanest = schedule.ends()
    even = torch.linspace(0, 1, 801, dtype=torch.float64)
    t = cleanest + (noisiest - cleanest) * torch.sin(torch.pi / 2 * even) ** 4
    t = torch.cat([t, cleanest + noisiest - t]).sort().values
    return (t / schedule.t_max).tolist(), schedule.log_snr(t).tolist()


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    draw()
