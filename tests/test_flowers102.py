"""Oxford 102 Flowers, on files of its layout with other contents: splits, labels, missing and damaged files."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stand_ins_kit
import torch
from data_kit import no_network_fixture as no_network_fixture
from data_kit import same_item_by_item
from host_kit import Host
from host_kit import host_fixture as host_fixture
from PIL import Image
from stand_ins_kit import FLOWER_LABELS

from dmf.core import Dataset
from dmf.plugins.datasets.flowers102 import Flowers102
from dmf.registry import UserError
from dmf.testing import check_dataset


@pytest.fixture
def like_flowers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven pictures of different sizes, their labels and splits, with their md5s."""
    stand_ins_kit.flowers102(tmp_path, monkeypatch)
    return tmp_path


def images_of(data: Dataset) -> torch.Tensor:
    held = data.tensors()
    assert held is not None
    return held[0]


def labels_of(data: Dataset) -> list[int]:
    return [int(data[i].cond["class"]) for i in range(len(data))]


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
    assert labels_of(data) == [FLOWER_LABELS[number - 1] - 1 for number in pictures]
    same_item_by_item(data, range(len(pictures)))
    check_dataset(data)
    for image, number in zip(images_of(data), pictures, strict=True):
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
    assert "102flowers.tgz did not come\n  https://www.robots.ox.ac.uk" in text
    assert f"put them into {tmp_path}/flowers-102, packed as they are" in text


def test_lost_pictures_are_unpacked_again_and_without_the_archive_counted(like_flowers: Path) -> None:
    lost = like_flowers / "flowers-102/jpg/image_00004.jpg"
    held = images_of(Flowers102(root=str(like_flowers), size=8))
    lost.unlink()
    assert torch.equal(images_of(Flowers102(root=str(like_flowers), size=8, download=False)), held) and lost.exists()
    lost.unlink()
    (like_flowers / "flowers-102/102flowers.tgz").unlink()
    text = complaint(like_flowers, download=False)
    assert "download is false" in text and "1 of 7 pictures are not in" in text and "the first image_00004.jpg" in text
    assert len(Flowers102(root=str(like_flowers), split="train", size=8)) == 2, "another part is whole"


def test_it_is_fetched_and_unpacked(like_flowers: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = like_flowers / "flowers-102"
    held = images_of(Flowers102(root=str(like_flowers), size=8))
    for name in ("102flowers.tgz", "imagelabels.mat", "setid.mat"):
        host.give(f"/{name}", (inside / name).read_bytes())
    shutil.rmtree(inside)
    monkeypatch.setattr("torchvision.datasets.Flowers102._download_url_prefix", f"{host.address}/")
    assert torch.equal(images_of(Flowers102(root=str(like_flowers), size=8)), held)
    assert host.asked == ["/102flowers.tgz", "/imagelabels.mat", "/setid.mat"]


def test_a_damaged_picture_is_named(like_flowers: Path) -> None:
    file = like_flowers / "flowers-102/jpg/image_00007.jpg"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(UserError, match=r"1 of 7 pictures cannot be used:\n  .*image_00007\.jpg cannot be read"):
        Flowers102(root=str(like_flowers), size=8)


def test_damaged_labels_are_told(like_flowers: Path) -> None:
    (like_flowers / "flowers-102/imagelabels.mat").write_bytes(b"cut")
    rows = complaint(like_flowers, download=False).splitlines()
    assert next(row for row in rows if "imagelabels.mat" in row).endswith("damaged")
