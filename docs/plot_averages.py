"""Draws images/averages.png, how much the weights of each time count: ``python docs/plot_averages.py``."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import NDArray

from dmf.core import Average
from dmf.core.averages import HalfLife, Power, profiles, reconstruct

FILE = Path(__file__).resolve().parent / "images" / "averages.png"
STEPS, BATCH, SNAPSHOTS = 2000, 100, 8
COLOURS = ["#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"]  # Okabe and Ito's, told apart by all
RULES: list[tuple[str, Average]] = [
    ("power, 0.05", Power(length=0.05)),
    ("power, 0.1", Power(length=0.1)),
    ("power, 0.2", Power(length=0.2)),
    ("half_life, a tenth of the training", HalfLife(length=STEPS // 10, rampup=0)),
    ("the same, rampup 0.05", HalfLife(length=STEPS // 10)),
]
Curve = NDArray[np.float64]


def draw() -> None:
    """Two panels: what there is, and what snapshots give."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.4), sharey=True, layout="constrained")
    for (label, rule), colour in zip(RULES, COLOURS, strict=False):
        panels[0].plot(TIME, shares(rule), label=label, color=colour)
    panels[0].set(title="averages at the end of a training", ylabel="how much the weights of a time count")
    remade(panels[1])
    for panel in panels:
        panel.set(xlabel="time, in shares of the training", xlim=(0, 1), ylim=(-0.5, 14))
        panel.legend(loc="upper left", frameon=False, fontsize=9)
    figure.savefig(FILE, dpi=110, metadata={"Software": None})


def remade(panel: Axes) -> None:
    """Profiles that are wanted, dashed, and what snapshots of 0.05 and 0.1 give."""
    times = [STEPS * (i + 1) / SNAPSHOTS for i in range(SNAPSHOTS)]
    there = profiles([t for t in times for _ in range(2)], [0.05, 0.1] * SNAPSHOTS)
    kept = np.stack([shares(Power(length=x), int(t)) for t in times for x in (0.05, 0.1)])
    for length, colour in zip((0.03, 0.07, 0.15, 0.2), COLOURS, strict=False):
        solution = reconstruct(there, profiles([float(STEPS)], [length]))
        panel.plot(
            TIME, solution.shares.numpy() @ kept, color=colour, label=f"{length}, off by {solution.residual:.1%}"
        )
        panel.plot(TIME, shares(Power(length=length)), "--", color=colour, linewidth=0.9)
    panel.set_title(f"made of {SNAPSHOTS} snapshots of 0.05 and 0.1; dashed: exact")


def shares(rule: Average, until: int = STEPS) -> Curve:
    """How much the weights of each step count in the average after ``until`` steps, as a density over the training."""
    decays = np.array([rule.decay(step, BATCH) for step in range(until)], dtype=np.float64)
    left = np.append(np.cumprod(decays[::-1])[::-1][1:], 1.0)  # of each step's weights
    found = np.zeros(STEPS)
    found[:until] = (1 - decays) * left * STEPS
    return found


TIME: Curve = (np.arange(STEPS) + 0.5) / STEPS

if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    draw()
