"""Draws images/weightings.png, how much each level counts: ``python docs/plot_weightings.py``."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import torch
from matplotlib import pyplot as plt

from dmf.core import LossSpace, NoiseSchedule
from dmf.registry import build, load

FILE = Path(__file__).resolve().parent / "images" / "weightings.png"
SIGMA_DATA = 0.5
OF_LOG_SNR: list[tuple[str, str, dict[str, Any]]] = [
    ("snr", "snr", {}),
    ("min_snr, gamma 5", "min_snr", {}),
    ("p2, gamma 0.5", "p2", {"gamma": 0.5}),
    ("edm, sigma_data 0.5", "edm", {}),
    ("sigmoid, bias 0; p2, gamma 1", "sigmoid", {}),
    ("sigmoid, bias −3", "sigmoid", {"bias": -3.0}),
]
UNIFORM = [
    ("epsilon", "epsilon"),
    ("v, where α² + σ² = 1", "v"),
    ("flow, where α + σ = 1", "flow"),
    ("edm, sigma_data 0.5", "edm"),
    ("x0", "x0"),
]
COLOURS = ["#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"]  # Okabe and Ito's, told apart by all


def draw() -> None:
    """Two panels: the weightings that are functions of log SNR, and `uniform` in each loss space."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 5), sharey=True, layout="constrained")
    titles = ("functions of log SNR", "uniform, in each loss space")
    for panel, title in zip(panels, titles, strict=True):
        panel.set(title=title, xlabel="log SNR, noisy to clean", xlim=(-10, 10), ylim=(2e-4, 5e3), yscale="log")
        panel.axvline(0, color="0.85", linewidth=0.8, zorder=0)
    for (label, name, options), colour in zip(OF_LOG_SNR, COLOURS, strict=True):
        panels[0].plot(*points(name, "epsilon", **options), label=label, color=colour, linestyle=style(options))
    for (label, space), colour in zip(UNIFORM, COLOURS, strict=False):
        panels[1].plot(*points("uniform", space), label=label, color=colour)
    for panel in panels:
        panel.legend(loc="lower left", frameon=False, fontsize=9)
    panels[0].set_ylabel("factor on the squared error of ε")
    figure.savefig(FILE, dpi=110, metadata={"Software": None})


def style(options: dict[str, Any]) -> str:
    """Dashed for another value than the default."""
    return "--" if options else "-"


def points(name: str, space: str, **options: Any) -> tuple[list[float], list[float]]:
    """Log SNR, and the factor on the squared error of the noise."""
    schedule: NoiseSchedule = build("schedule", "flow" if space == "flow" else "cosine_vp")
    log_snr = torch.linspace(-10, 10, 401, dtype=torch.float64)
    level = schedule.at(schedule.t_at(log_snr))
    _, c_skip, c_out = load("prediction", space)(level, SIGMA_DATA)
    on_x0 = build("weighting", name, **options)(level, LossSpace(c_skip, c_out, SIGMA_DATA))
    return log_snr.tolist(), (on_x0 * level.ratio**2).tolist()  # x0_hat = (x - sigma eps) / alpha


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    draw()
