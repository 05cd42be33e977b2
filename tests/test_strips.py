"""Strips, images on their way from noise: in previews, at the end of a run, and by `dmf sample`."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dmf.core import DataSpec, Level, Pixels
from dmf.runner.strips import Strips

Command = Callable[..., tuple[int, str, str]]
CELL, GAP = 48, 4  # 8 x 8 pixels, enlarged
SMALL = ["train.steps=6", "sampler.steps=5", "sample={per_class: 2, strips: 3, batch_size: 7}", "sample.seed=4"]


def level(sigma: float) -> Level:
    one = torch.ones((), dtype=torch.float64)
    return Level(one * sigma, one, one * sigma)


def cells(file: str | Path, columns: int) -> np.ndarray:
    """The images of a sheet, from the right edge, (rows, columns, 8, 8)."""
    page = np.asarray(Image.open(file))[..., 0]
    rows, step = (page.shape[0] - GAP) // (CELL + GAP), CELL + GAP
    left = page.shape[1] - columns * step
    at = [[(GAP + r * step, left + c * step) for c in range(columns)] for r in range(rows)]
    found: np.ndarray = np.array([[page[y : y + CELL : 6, x : x + CELL : 6] for y, x in row] for row in at])
    return found


@pytest.mark.parametrize(("pictures", "shown"), [(1, [0]), (2, [3, 0]), (3, [4, 2, 0]), (5, [4, 3, 2, 1, 0]), (9, 5)])
def test_pictures_lie_at_even_distances_and_the_last_is_the_image(pictures: int, shown: list[int] | int) -> None:
    levels, heard = [level(sigma) for sigma in (5, 4, 3, 2, 1, 0)], list[int]()
    strips = Strips(Pixels(DataSpec((1, 8, 8))), levels, pictures, lambda index, x, at: heard.append(index))
    for start in (0, 2):  # two batches, of two images and of one
        for i, at in enumerate(levels[1:]):
            value = -0.5 + 0.25 * torch.arange(start, min(start + 2, 3)).reshape(-1, 1, 1, 1)
            size = torch.hypot(at.alpha, at.sigma) if at is not levels[-1] else 1
            strips(i, (value * size).float().expand(-1, 1, 8, 8), at)
    assert heard == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    count = len(shown) if isinstance(shown, list) else shown
    page = strips.sheet().numpy()[0]
    assert page.shape == (3 * (CELL + GAP) + GAP, count * (CELL + GAP) + GAP)
    greys = page[GAP + 24 :: CELL + GAP, GAP + 24 :: CELL + GAP]
    assert greys.tolist() == [[64] * count, [96] * count, [128] * count]  # of one contrast all the way
    if isinstance(shown, list):
        assert [at.sigma.item() for at in strips._shown] == shown


def test_previews_and_the_end_of_a_run_show_each_images_way(tiny: Path, dmf_command: Command) -> None:
    previews = "preview={every: 3, strips: 4, per_class: 1}"
    assert dmf_command("run", tiny, *SMALL, previews)[0] == 0
    made = sorted(os.listdir("runs/tiny/samples"))
    sheets = [f"{name}-{step:08d}.png" for name in ("step", "strips") for step in (0, 3, 6)]
    assert made == sorted(["grid.png", "strips.png", *sheets])
    for step in (0, 3, 6):
        images = cells(f"runs/tiny/samples/step-{step:08d}.png", 1)
        ways = cells(f"runs/tiny/samples/strips-{step:08d}.png", 4)
        assert (ways[:, -1] == images[:, 0]).all() and len(ways) == 10
        assert (np.abs(ways[:, 0] - images[:, 0].astype(int)).mean((1, 2)) > 0).all()
    images, ways = cells("runs/tiny/samples/grid.png", 2), cells("runs/tiny/samples/strips.png", 3)
    assert (ways[:, -1].reshape(10, 2, 8, 8) == images).all()  # batches of seven beside classes of two
    assert Image.open("runs/tiny/samples/strips.png").text["dmf.seed"] == "4"  # type: ignore[attr-defined]
    before = Path("runs/tiny/samples/grid.png").read_bytes()
    assert dmf_command("run", tiny, *SMALL, previews, "sample.strips=0")[0] == 0
    assert Path("runs/tiny/samples/grid.png").read_bytes() != before  # its recipe is in it
    assert (cells("runs/tiny/samples/grid.png", 2) == images).all()


def test_a_command_line_asks_for_them(tiny: Path, dmf_command: Command) -> None:
    assert dmf_command("train", tiny, "train.steps=6")[0] == 0
    code, out, _ = dmf_command("sample", "tiny", "--count", 3, "--steps", 6, "--strips", 2, "--grid", "some.png")
    assert code == 0 and out.splitlines()[-1] == "their ways from noise: some-strips.png"
    ways = cells("some-strips.png", 2)
    assert ways.shape == (3, 2, 8, 8)
    page = np.asarray(Image.open("some.png"))[..., 0]
    assert (ways[0, 1] == page[GAP : GAP + CELL : 6, -CELL - GAP : -GAP : 6]).all()
    Image.fromarray(ways[0, 1]).save("one.png")
    words = ["--from", "one.png", "--strength", 0.5, "--count", 2, "--npz", "two.npz"]
    assert dmf_command("sample", "tiny", "--steps", 6, "--strips", 6, *words)[0] == 0
    assert cells("two-strips.png", 3).shape == (2, 3, 8, 8)  # of six steps those that are left to walk
