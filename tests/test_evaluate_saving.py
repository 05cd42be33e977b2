"""Images kept while they are made: the same as were scored, whole or not there, from all ranks."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import FULL
from fork_kit import on_ranks
from PIL import Image

from dmf.core import DataSpec
from dmf.plugins.datasets.image_folder import ImageFolder
from dmf.registry import UserError
from dmf.runner.evaluation.first_images import FirstImages
from dmf.runner.evaluation.saving import saving
from dmf.runner.evaluation.streams import Shown, shares
from dmf.runner.image_sets.named import place_of
from dmf.runner.image_sets.unfinished import UNFINISHED
from dmf.runner.world import LocalError, World

Command = Callable[..., tuple[int, str, str]]
ALONE = World(0, 1, torch.device("cpu"))
METRICS = "[{name: frechet, features: digits}, {name: kernel, features: digits, subsets: 3, subset_size: 40}]"
COUNT, SPEC = 31, DataSpec((3, 6, 5), ("ant", "bee", "cat"))


def images() -> torch.Tensor:
    return torch.randint(0, 256, (COUNT, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def batches(world: World, size: int = 4) -> list[Shown]:
    every, labels = images(), torch.arange(COUNT) % 3
    return [Shown(every[rows], {"class": labels[rows]}, rows) for rows in shares(COUNT, world, size)]


def save(place: Path, world: World) -> torch.Tensor | None:
    first = FirstImages(SPEC, world)
    with saving(place, COUNT, SPEC, world) as kept:
        for shown in batches(world):
            kept.take(shown)
            first.take(shown)
        kept.finish()
    return first.sheet()


def check(folder: Path, arrays: Path) -> None:
    found = [np.array(Image.open(folder / f"{i:06d}.png")) for i in range(COUNT)]
    wanted = images().permute(0, 2, 3, 1).numpy()
    assert np.array_equal(np.stack(found), wanted)
    data = ImageFolder(root=str(folder), size=5, cache=False)
    assert data.spec.classes == ("ant", "bee", "cat")
    assert data.conditions()["class"].tolist() == [i % 3 for i in range(COUNT)]
    with np.load(arrays) as held:
        assert np.array_equal(held["arr_0"], wanted) and held["arr_1"].tolist() == [i % 3 for i in range(COUNT)]


def saved_on(world: World, home: Path) -> None:
    save(home / "set", world)
    sheet = save(home / "set.npz", world)
    assert (sheet is None) == (not world.first)
    if sheet is not None:
        torch.save(sheet, home / "sheet.pt")
    with pytest.raises(UserError, match="not mixed"):  # on every rank
        save(home / "set", world)


def test_one_rank_and_several_keep_the_same(workdir: Path) -> None:
    alone = save(workdir / "set", ALONE)
    save(workdir / "set.npz", ALONE)
    check(workdir / "set", workdir / "set.npz")
    assert not Path("set", UNFINISHED).exists()
    (workdir / "ranks").mkdir()
    on_ranks(3 if FULL else 2, saved_on, workdir / "ranks")
    check(workdir / "ranks/set", workdir / "ranks/set.npz")
    assert alone is not None and torch.equal(torch.load(workdir / "ranks/sheet.pt"), alone)


@pytest.mark.parametrize("place", ["set", "set.npz"])
def test_what_is_stopped_leaves_whole_files(workdir: Path, place: str) -> None:
    with pytest.raises(KeyboardInterrupt), saving(workdir / place, COUNT, SPEC, ALONE) as kept:
        for shown in batches(ALONE)[:3]:
            kept.take(shown)
        raise KeyboardInterrupt
    assert not Path("set.npz").exists()
    there = sorted(workdir.glob("set/*"))
    assert all(np.array(Image.open(one)).shape == (6, 5, 3) for one in there if one.suffix == ".png")
    assert not [one for one in workdir.rglob("*") if one.name.startswith(".")]
    if place == "set":
        with pytest.raises(UserError, match=r"set holds a part of the pictures .*: remove it, or name another"):
            saving(Path("set"), COUNT, SPEC, ALONE)
        with pytest.raises(UserError, match=r"ended before the last .*: give a whole set"):
            place_of("set")


def test_a_disk_that_is_full_is_told(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(LocalError, match=r"--save-images: .*cannot be written: No space left"):
        save(workdir / "set", ALONE)


def test_places_that_cannot_be_are_refused(workdir: Path) -> None:
    Path("file").write_text("x")
    Path("full").mkdir()
    Path("full/a.txt").write_text("x")
    Path("there.npz").write_text("x")
    told = {
        "file": "is a file",
        "full": "1 file in it",
        "there.npz": "is there already",
        "no/set.npz": "folder that is not there",
        "file/below": "cannot be made",
    }
    for place, said in told.items():
        with pytest.raises(UserError, match=said):
            saving(Path(place), 3, SPEC, ALONE)
    with pytest.raises(UserError, match="4 x 8 x 8"):
        saving(Path("new"), 3, DataSpec((4, 8, 8)), ALONE)


def test_saved_images_score_as_they_did_when_they_were_made(tiny: Path, dmf_command: Command) -> None:
    dmf_command("train", tiny)
    words = ["--images", 70, "--metrics", METRICS, "--no-held-out"]
    code, _, err = dmf_command("evaluate", "tiny", *words, "--save-images", "set", "--json", "made.json")
    assert code == 0, err
    assert dmf_command("evaluate", "tiny", *words, "--save-images", "set.npz")[0] == 0
    made = {name: one["value"] for name, one in json.loads(Path("made.json").read_text()).items()}
    for generated in ("set", "set.npz"):
        words = ["--generated", generated, "--reference", "digits", "--metrics", METRICS, "--no-held-out"]
        code, _, err = dmf_command("evaluate", *words, "--json", "read.json")
        assert code == 0, err
        assert {name: one["value"] for name, one in json.loads(Path("read.json").read_text()).items()} == made
    code, _, err = dmf_command("evaluate", "tiny", "--images", 70, "--metrics", METRICS, "--save-images", "set")
    assert code == 2 and "not mixed" in err and "evaluate 70" not in err


def test_a_sheet_has_a_class_a_row_and_the_first_images(workdir: Path) -> None:
    first = FirstImages(DataSpec((1, 8, 8), ("a", "b")), ALONE)
    labels = torch.tensor([1, 0, 1, 1])
    first.take(Shown(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), {"class": labels}, torch.arange(4)))
    first.take(Shown(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), {"class": labels[:1]}, torch.tensor([9999])))
    sheet = first.sheet()
    assert sheet is not None and sheet.shape[0] == 3
    dark = (sheet == 0).all(0)  # 48 pixels a cell: one of class a, three of class b
    assert int(dark.sum()) == 4 * 48 * 48 and int(dark[:52].sum()) == 48 * 48
