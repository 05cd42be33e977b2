"""Oxford 102 Flowers, on files of its layout with other contents: splits, labels, missing and damaged files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_kit import md5_of, paint, same_item_by_item
from data_kit import no_network_fixture as no_network_fixture
from PIL import Image
from scipy.io import savemat

from dmf.plugins.datasets.flowers102 import Flowers102
from dmf.registry import UserError
from dmf.testing import check_dataset

LABELS = [3, 1, 102, 1, 7, 50, 3]  # of pictures 1 ... 7; from 1, as in the file
SPLITS = {"trnid": [6, 2], "valid": [4, 1], "tstid": [3, 7, 5]}  # pictures, from 1


@pytest.fixture
def like_flowers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven pictures of different sizes, their labels and splits, with their md5s."""
    from torchvision.datasets import Flowers102 as Theirs

    folder = tmp_path / "flowers-102"
    for number in range(1, 8):
        paint(folder / f"jpg/image_{number:05d}.jpg", width=20 + number, height=30 - number, seed=number)
    savemat(folder / "imagelabels.mat", {"labels": np.array([LABELS], np.uint8)})
    savemat(folder / "setid.mat", {name: np.array([rows], np.uint16) for name, rows in SPLITS.items()})
    known = dict(Theirs._file_dict)
    for key in ("label", "setid"):
        name = known[key][0]
        known[key] = (name, md5_of(folder / name))
    monkeypatch.setattr(Theirs, "_file_dict", known)
    return tmp_path


def middle(file: Path, size: int) -> torch.Tensor:
    """The middle square of a picture, cut first and then scaled: the plain way to say it."""
    with Image.open(file) as picture:
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        cut = picture.convert("RGB").crop((left, top, left + side, top + side))
        return torch.from_numpy(np.array(cut.resize((size, size), Image.Resampling.BICUBIC))).permute(2, 0, 1)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("split", "pictures"),
    [
        ("train", [6, 2]),
        ("val", [4, 1]),
        ("test", [3, 7, 5]),
        ("train+val", [6, 2, 4, 1]),
        ("all", [6, 2, 4, 1, 3, 7, 5]),
    ],
)
def test_the_splits_and_their_labels(like_flowers: Path, split: Any, pictures: list[int]) -> None:
    data = Flowers102(root=str(like_flowers), split=split, size=8)
    assert data.spec.shape == (3, 8, 8) and len(data.spec.classes) == 102
    assert data.cond["class"].tolist() == [LABELS[number - 1] - 1 for number in pictures]
    same_item_by_item(data, range(len(pictures)))
    check_dataset(data)
    for image, number in zip(data.images, pictures, strict=True):
        wanted = middle(like_flowers / f"flowers-102/jpg/image_{number:05d}.jpg", 8)
        assert (image.int() - wanted.int()).abs().max() <= 24, "of noise, half a pixel beside the cut may shine through"
        assert (image.float() - wanted.float()).abs().mean() < 6


@pytest.mark.usefixtures("no_network")
def test_what_is_held_out(like_flowers: Path) -> None:
    def held_out(split: Any) -> Any:
        return Flowers102(root=str(like_flowers), split=split, size=8, download=False).held_out()

    assert held_out("all") is None and held_out("val") is None
    for split, other in {"train": "test", "train+val": "test", "test": "train+val"}.items():
        found = held_out(split)
        assert (found.split, found.size, found.download) == (other, 8, False)


def test_the_first_and_last_names() -> None:
    from torchvision.datasets import Flowers102 as Theirs

    classes = Theirs.classes  # classes 1, 54 and 102 on the authors' page
    assert (classes[0], classes[53], classes[101]) == ("pink primrose", "sunflower", "blackberry lily")


def complaint(root: Path, **options: Any) -> str:
    with pytest.raises(ValueError) as error:
        Flowers102(root=str(root), **options)
    return str(error.value)


@pytest.mark.usefixtures("no_network")
def test_it_says_what_it_looked_for_and_tried(tmp_path: Path) -> None:
    text = complaint(tmp_path)
    assert f"Oxford 102 Flowers is not (whole) in {tmp_path}/flowers-102" in text
    rows = [line.split() for line in text.splitlines() if "  md5 " in line]
    assert [row[0] for row in rows] == ["102flowers.tgz", "imagelabels.mat", "setid.mat"]
    assert rows[0][2] == "52808999861908f626f3c1f4e79d11fa" and {row[-1] for row in rows} == {"missing"}
    assert "download from https://www.robots.ox.ac.uk" in text and "failed: URLError" in text
    assert f"tar -xzf 102flowers.tgz -C {tmp_path}/flowers-102" in text


def test_lost_pictures_are_counted(like_flowers: Path) -> None:
    lost = like_flowers / "flowers-102/jpg/image_00004.jpg"
    lost.unlink()
    text = complaint(like_flowers, download=False)
    assert "unpacked, 6 pictures in jpg" in text and "download is false" in text
    text = complaint(like_flowers)  # all that torchvision asks for is there, so it fetches nothing
    assert f"1 pictures are not there, the first of them {lost}" in text


def test_a_damaged_picture_is_named(like_flowers: Path) -> None:
    file = like_flowers / "flowers-102/jpg/image_00007.jpg"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(UserError, match=r"1 of 7 pictures cannot be used:\n  .*image_00007\.jpg cannot be read"):
        Flowers102(root=str(like_flowers), size=8)


def test_damaged_labels_are_told(like_flowers: Path) -> None:
    (like_flowers / "flowers-102/imagelabels.mat").write_bytes(b"cut")
    rows = complaint(like_flowers, download=False).splitlines()
    assert next(row for row in rows if "imagelabels.mat" in row).endswith("damaged")
