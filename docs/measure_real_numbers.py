"""Measures the real numbers of metrics.md and draws them: ``DMF_DATA=DATA python docs/measure_real_numbers.py WORK``.

DATA holds CIFAR-10, FashionMNIST and the classifier's weights. Everything is measured by `dmf evaluate`, as the page
shows it; what is already in WORK is not measured again.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt

from dmf.registry import build

PAGE = Path(__file__).resolve().parent / "metrics.md"
PLOT = PAGE.parent / "images" / "real_numbers.png"
START, END = "<!-- measured: docs/measure_real_numbers.py -->\n", "<!-- end of measured: real numbers -->\n"
SETS = {"cifar10": "CIFAR-10", "fashion_mnist": "FashionMNIST"}
SIGMAS = (0, 4, 8, 16, 32, 64)
COPIES = 5000
NETWORK = "{name: classifier, path: FILE, architecture: resnet20, size: 32, called: resnet20}"
DISTANCES = "{name: frechet, features: &net NETWORK}, {name: kernel, features: *net}"
NEIGHBOURS = "{name: precision_recall, features: *net}, {name: density_coverage, features: *net}"
SHARES = {"precision": "o-", "recall": "s--", "coverage": "^:"}
COLOURS = ["#0072B2", "#D55E00"]


def noisy(name: str, sigma: int, file: Path) -> None:
    """Copies of the first training images, with normal noise of standard deviation sigma, of 255."""
    images, _ = build("dataset", name).tensors()
    pixels = images[:COPIES].permute(0, 2, 3, 1).numpy()
    noise = np.random.default_rng(0).normal(0, sigma, pixels.shape)
    np.savez(file, arr_0=(pixels + noise).round().clip(0, 255).astype(np.uint8))


def measured(work: Path, what: str, generated: str, reference: str, metrics: str) -> dict[str, Any]:
    """The values of one `dmf evaluate`, by name."""
    file = work / f"{what}.json"
    if not file.exists():
        network = next(Path(os.environ["DMF_DATA"]).glob("cifar10_resnet20-*.th"))
        wanted = f"[{metrics}]".replace("NETWORK", NETWORK.replace("FILE", str(network)))
        of = ["--generated", generated, "--reference", reference, "--metrics", wanted]
        how = ["--no-held-out", "--batch-size", "50", "--json", str(file)]
        subprocess.run([sys.executable, "-m", "dmf", "evaluate", *of, *how], check=True)
    return json.loads(file.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def of_set(work: Path, name: str) -> list[dict[str, float]]:
    """A row for each noise, and one for the whole sets."""
    test, rows = f"{{name: {name}, split: test}}", []
    for sigma in SIGMAS:
        copies = work / f"{name}-{sigma}.npz"
        if not copies.exists():
            noisy(name, sigma, copies)
        rows.append(measured(work, f"{name}-{sigma}", str(copies), test, f"{DISTANCES}, {NEIGHBOURS}"))
    rows.append(measured(work, f"{name}-test", test, name, DISTANCES))
    return [{key: one["value"] for key, one in row.items()} for row in rows]


def table(rows: list[dict[str, float]]) -> list[str]:
    """Lines of a table."""
    heads = ["frechet", "kernel", "precision", "recall", "density", "coverage"]
    lines = ["| as generated | reference | " + " | ".join(heads) + " |", "|---" * (len(heads) + 2) + "|"]
    pair = "{:,} training images, noise σ {} | the test set"
    names = [pair.format(COPIES, sigma) for sigma in SIGMAS] + ["the test set | the training set"]
    for name, row in zip(names, rows, strict=True):
        cells = [cell(head, row) for head in heads]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def cell(head: str, row: dict[str, float]) -> str:
    value = row.get(f"{head}_resnet20")
    if value is None:
        return ""
    deviation = f" ± {row['kernel_resnet20_sd']:.2g}" if head == "kernel" else ""
    return (f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1g}") + deviation


def draw(found: dict[str, list[dict[str, float]]]) -> None:
    """Distances, and shares of neighbours, over the noise."""
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    titles = ("frechet_resnet20", "kernel_resnet20", "shares")
    for panel, title in zip(panels, titles, strict=True):
        panel.set(title=title, xlabel="noise σ, of 255")
        panel.set_xticks(SIGMAS, [str(s) if s != 4 else "" for s in SIGMAS])
    for (name, rows), colour in zip(found.items(), COLOURS, strict=True):
        for panel, value in zip(panels, titles[:2], strict=False):
            panel.plot(SIGMAS, [row[value] for row in rows[: len(SIGMAS)]], "o-", color=colour, label=SETS[name])
            panel.set_yscale("symlog", linthresh=1e-2 if value == titles[1] else 1e-1)
        for value, style in SHARES.items():
            shares = [row[f"{value}_resnet20"] for row in rows[: len(SIGMAS)]]
            panels[2].plot(SIGMAS, shares, style, color=colour, markersize=4)
    panels[0].legend(frameon=False, fontsize=9)
    for value, style in SHARES.items():
        panels[2].plot([], [], f"k{style}", label=value, markersize=4)
    panels[2].legend(frameon=False, fontsize=9)
    panels[2].set_ylim(0, 1.02)
    figure.savefig(PLOT, dpi=110, metadata={"Software": None})


def main(work: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    found = {name: of_set(work, name) for name in SETS}
    lines = [line for name, rows in found.items() for line in (f"**{SETS[name]}**", "", *table(rows), "")]
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + START + "\n" + "\n".join(lines) + "\n" + END + after, encoding="utf-8")
    PLOT.parent.mkdir(exist_ok=True)
    draw(found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
