"""What a run shows of its data: a few of each class, and no image read to be left out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dmf.core import Cond, Dataset, DataSpec, Example
from dmf.plugins.datasets._picture_set import PictureSet
from dmf.plugins.datasets.image_folder import ImageFolder
from dmf.runner.training_images import MOST, shown

Command = Callable[..., tuple[int, str, str]]
COLOURS = {"cat": (255, 0, 0), "dog": (0, 255, 0), "emu": (0, 0, 255)}


class Classes(Dataset):
    """Images whose classes come one after the other; an image that is read is noted."""

    def __init__(self, count: int, classes: int, known: bool) -> None:
        self.spec = DataSpec((1, 2, 2), tuple(map(str, range(classes))))
        self.label = torch.arange(count) * classes // count
        self.known = known
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, i: int) -> Example:
        self.read.append(i)
        return Example(torch.zeros(1, 2, 2, dtype=torch.uint8), {"class": self.label[i]})

    def conditions(self) -> Cond | None:
        return {"class": self.label} if self.known else super().conditions()


@pytest.mark.parametrize(("classes", "kinds", "row"), [(3, 3, 12), (12, 12, 12), (13, 13, 6), (100, 24, 6)])
def test_a_few_of_each_of_the_first_classes_are_shown(classes: int, kinds: int, row: int) -> None:
    data = Classes(5000, classes, known=True)
    numbers = shown(data)
    assert torch.equal(data.label[numbers], torch.arange(kinds).repeat_interleave(row))
    assert len(numbers) == len(set(numbers.tolist())) <= MOST and data.read == []


def test_where_labels_are_not_known_what_is_shown_comes_from_all_over() -> None:
    data = Classes(144 * 30, 3, known=False)
    numbers = shown(data)
    assert len(numbers) == MOST and data.read == []
    assert torch.bincount(data.label[numbers]).tolist() == [48, 48, 48]
    assert shown(Classes(5, 3, known=False)).tolist() == [0, 1, 2, 3, 4]


@pytest.fixture
def many(tiny: Path) -> Path:
    """The small recipe on files of three classes, more of each than a sheet shows."""
    for name, colour in COLOURS.items():
        folder = tiny.parent / "pets" / name
        folder.mkdir(parents=True)
        for number in range(20):
            Image.fromarray(np.full((8, 8, 3), colour, np.uint8)).save(folder / f"{number}.png")
    data = "dataset: {name: image_folder, root: pets, size: 8, memory_gib: 0}\nloading: {workers: 0}\n"
    lines = [line for line in tiny.read_text().splitlines() if not line.startswith("dataset:")]
    tiny.write_text("\n".join(lines) + "\n" + data)
    return tiny


def test_all_classes_are_on_the_sheet_of_files_and_only_those_are_read(
    many: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, rows = list[list[int]](), PictureSet.rows

    def noted(self: PictureSet, numbers: list[int]) -> tuple[Tensor, Cond]:
        read.append(list(numbers))
        return rows(self, numbers)

    monkeypatch.setattr(PictureSet, "rows", noted)
    code, _, err = dmf_command("train", many, "train.steps=1")
    assert code == 0, err
    page = np.asarray(Image.open(many.parent / "runs/tiny/data.png").convert("RGB"))
    for colour in COLOURS.values():
        assert (page == colour).all(-1).sum() == 12 * 48 * 48
    assert read[:3] == [list(range(start, start + 12)) for start in (0, 20, 40)]
    assert {i for numbers in read[3:] for i in numbers} and len(read) == 4  # and the one batch


def test_the_labels_of_samples_read_no_image(many: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dmf_command("train", many, "train.steps=1", "dataset.channels=1")[0] == 0
    asked = list[int]()

    def noted(self: ImageFolder, numbers: list[int]) -> tuple[Tensor, Cond]:
        asked.extend(numbers)
        return rows(self, numbers)

    rows = ImageFolder.rows
    monkeypatch.setattr(ImageFolder, "rows", noted)
    metric = "[{name: kernel, features: digits}]"
    code, _, err = dmf_command("evaluate", "tiny", "--images", 30, "--metrics", metric)
    assert code == 0, err
    assert sorted(asked) == list(range(60)), "the reference, each once"
