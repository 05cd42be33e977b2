"""Draws images/decays.png, the course of the learning rate by every decay: ``python docs/plot_decays.py``."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from dmf.core import images_of
from dmf.registry import build
from dmf.runner.training.rates import Rates

FILE = Path(__file__).resolve().parent / "images" / "decays.png"
SIZE, STEPS, WARMUP = 256, 400_000, "5M images"  # as cifar10_dit has, but for a longer warm-up, which can be seen
SHOWN = 1.25  # of the training: what happens when it is extended
DECAYS: list[tuple[str, dict[str, Any]]] = [
    ("constant", {}),
    ("linear", {}),
    ("cosine", {}),
    ("cosine", {"final": 0.1}),
    ("step", {"every": "25M images", "factor": 0.5}),
    ("inverse_sqrt", {"after": "20M images"}),
]
COLOURS = ["#000000", "#0072B2", "#D55E00", "#E69F00", "#009E73", "#CC79A7"]  # Okabe and Ito's, told apart by all


def draw() -> None:
    """The factor on the learning rate against images seen; beyond the horizon a rate stays as it is."""
    figure, panel = plt.subplots(figsize=(9, 4.5), layout="constrained")
    panel.axvline(SIZE * STEPS / 1e6, color="0.8", linewidth=0.8, zorder=0)
    panel.text(SIZE * STEPS / 1e6, 1.04, " the end it was laid out for", color="0.4", fontsize=9)
    for (name, options), colour in zip(DECAYS, COLOURS, strict=True):
        label = ", ".join([name, *(f"{key} {value}" for key, value in options.items())])
        panel.plot(*points(name, options), label=label, color=colour)
    panel.set(xlabel="million images seen", ylabel="factor on train.lr", ylim=(0, 1.1), xlim=(0, None))
    panel.legend(loc="upper right", bbox_to_anchor=(1, 0.88), frameon=False, fontsize=9)
    figure.savefig(FILE, dpi=110, metadata={"Software": None})


def points(name: str, options: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Millions of images seen, and the factor."""
    rates = Rates(build("decay", name, **options), images_of(WARMUP, SIZE), SIZE)
    seen = [step * SIZE for step in range(0, int(SHOWN * STEPS), 200)]
    return [images / 1e6 for images in seen], [rates.factor(images, SIZE * STEPS) for images in seen]


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    draw()
