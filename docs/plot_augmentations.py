"""Draws images/augmentations.png, what each change does to a drawn picture: ``python docs/plot_augmentations.py``."""

import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import torch
from matplotlib import pyplot as plt
from PIL import Image, ImageDraw
from torch import Tensor

from dmf.core import DataSpec
from dmf.plugins.augmentations._warp import warp
from dmf.plugins.augmentations.crop import Crop
from dmf.plugins.augmentations.edm import EDM, Parameters, labels

FILE = Path(__file__).resolve().parent / "images" / "augmentations.png"
SIZE, FINER = 48, 8
SPEC = DataSpec((3, SIZE, SIZE))
ALONE: list[tuple[str, dict[str, float]]] = [
    ("as it is", {}),
    ("mirrored", {"mirror_x": 1}),
    ("scaled", {"scaling": -1.5}),
    ("turned", {"rotation": math.pi / 5}),
    ("stretched", {"anisotropy": 2, "direction": 0.8}),
    ("moved", {"shift_x": 1.2, "shift_y": -0.8}),
]
BY_CHANCE = 6
HEIGHTS = [2.45, 2.25, 1.8]  # of the rows: names above, labels below, neither


def drawn() -> Tensor:
    """A house by day, (1, 3, 48, 48) uint8."""
    side = SIZE * FINER
    image = Image.new("RGB", (side, side), "#8fc7e8")
    pen = ImageDraw.Draw(image)
    unit = side / 48
    pen.rectangle([0, 34 * unit, side, side], fill="#6a9a4f")
    pen.ellipse([35 * unit, 4 * unit, 44 * unit, 13 * unit], fill="#f6d64a")
    pen.rectangle([9 * unit, 20 * unit, 29 * unit, 40 * unit], fill="#e7e0d2")
    pen.polygon([(6 * unit, 21 * unit), (19 * unit, 8 * unit), (32 * unit, 21 * unit)], fill="#b5483a")
    pen.rectangle([12 * unit, 29 * unit, 17 * unit, 40 * unit], fill="#6b4a32")
    pen.rectangle([20 * unit, 24 * unit, 26 * unit, 30 * unit], fill="#4a6fa5")
    pen.rectangle([38 * unit, 28 * unit, 40 * unit, 40 * unit], fill="#6b4a32")
    pen.ellipse([34 * unit, 19 * unit, 44 * unit, 31 * unit], fill="#3f7a3a")
    small = image.resize((SIZE, SIZE), Image.Resampling.BOX)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1)[None]


def changed(picture: Tensor, by: dict[str, float]) -> tuple[Tensor, Tensor]:
    """The picture under one of edm's changes, and its label."""
    nothing = Parameters(*torch.zeros(8, 1, dtype=torch.float64))
    a = nothing._replace(**{name: torch.tensor([value], dtype=torch.float64) for name, value in by.items()})
    moved = picture.flip(-1) if a.mirror_x else picture
    if set(by) - {"mirror_x"}:
        moved = warp(moved.float(), EDM(SPEC).back(a, SIZE, SIZE)).round().clamp(0, 255).to(torch.uint8)
    return moved[0], labels(a)[0]


def words(label: Tensor) -> str:
    """The nine numbers in three lines."""
    numbers = ["0" if n == 0 else f"{n:.1f}" for n in label.tolist()]
    return "\n".join("  ".join(numbers[i : i + 3]) for i in (0, 3, 6))


def draw() -> None:
    """A row of single changes, a row of edm's by chance, and one of crop's."""
    picture = drawn()
    draws = torch.rand(BY_CHANCE, EDM.draws, generator=torch.Generator().manual_seed(3))
    all_of_it, told = EDM(SPEC, probability=0.6)(picture.expand(BY_CHANCE, -1, -1, -1), draws)
    cut, _ = Crop(SPEC, padding=8)(picture.expand(BY_CHANCE, -1, -1, -1), draws[:, :2])
    single = [changed(picture, by) for _, by in ALONE]
    nameless, alone = [""] * BY_CHANCE, [name for name, _ in ALONE]
    rows = [
        ("edm, one change at a time", alone, [image for image, _ in single], [words(n) for _, n in single]),
        ("edm, probability 0.6: six draws", nameless, list(all_of_it), [words(n) for n in told]),
        ("crop, padding 8: six draws", nameless, list(cut), [""] * BY_CHANCE),
    ]
    figure = plt.figure(figsize=(1.55 * len(ALONE), 6.5), layout="constrained")
    parts = figure.subfigures(3, 1, squeeze=False, height_ratios=HEIGHTS)[:, 0]
    for part, (name, titles, images, below) in zip(parts, rows, strict=True):
        part.suptitle(name, fontsize=10, x=0.006, ha="left")
        for panel, title, image, text in zip(part.subplots(1, len(images)), titles, images, below, strict=True):
            panel.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
            panel.set(xticks=[], yticks=[])
            panel.set_title(title, fontsize=9)
            panel.set_xlabel(text, fontsize=7, family="monospace")
    figure.savefig(FILE, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    draw()
