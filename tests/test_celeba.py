"""CelebA on files of its format: parts, attributes, crops, zip and folder, and each way in which its host refuses."""

import shutil
import zipfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import stand_ins_kit
import torch
from data_kit import no_network_fixture as no_network_fixture
from data_kit import same_item_by_item
from host_kit import NO_VIRUS_SCAN, TOO_MANY, Host
from host_kit import host_fixture as host_fixture
from PIL import Image
from stand_ins_kit import FACE_PARTS, FACES, HEADER

from dmf.core import Dataset
from dmf.plugins.datasets import _celeba_files
from dmf.plugins.datasets._celeba_files import Attribute, class_names
from dmf.plugins.datasets.celeba import BOXES, CelebA
from dmf.registry import PartError, UserError, build
from dmf.testing import check_dataset

ZIP = "img_align_celeba.zip"


@pytest.fixture
def like_celeba(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve pictures in the zip, and all text files; its folder."""
    stand_ins_kit.celeba(tmp_path, monkeypatch)
    monkeypatch.setenv("DMF_DATA", str(tmp_path))
    return tmp_path / "celeba"


def images_of(data: Dataset) -> torch.Tensor:
    held = data.tensors()
    assert held is not None
    return held[0]


def face(folder: Path, number: int) -> Image.Image:
    with zipfile.ZipFile(folder / ZIP) as packed, packed.open(f"img_align_celeba/{number:06d}.jpg") as file:
        return Image.open(file).convert("RGB")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(("split", "part"), [("train", 0), ("valid", 1), ("test", 2), ("all", None)])
def test_the_parts(like_celeba: Path, split: Any, part: int | None) -> None:
    data = CelebA(split=split, size=8)
    numbers = [i + 1 for i in range(FACES) if part in (None, FACE_PARTS[i])]
    assert [data.name_of(i) for i in range(len(data))] == [f"{number:06d}.jpg" for number in numbers]
    assert data.spec.shape == (3, 8, 8) and data.spec.classes == ()
    check_dataset(data)


@pytest.mark.parametrize("crop", [128, 140, 148, 178])
def test_the_part_of_a_picture_that_counts(like_celeba: Path, crop: Any) -> None:
    data = CelebA(crop=crop, size=64)
    left, top = {128: (89 - 64, 121 - 64), 140: (19, 39), 148: (15, 35), 178: (0, 20)}[crop]  # as the papers' code
    for i, image in enumerate(images_of(data), 1):
        cut = face(like_celeba, i).crop((left, top, left + crop, top + crop))
        wanted = cut.resize((64, 64), Image.Resampling.BICUBIC)
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(wanted))
    assert CelebA(crop=crop, size=16).fingerprint() != CelebA(crop=crop, size=8).fingerprint()
    assert crop == 128 or data.fingerprint() != CelebA(size=64).fingerprint()


def test_every_crop_lies_in_the_picture() -> None:
    for crop, (left, top, right, bottom) in BOXES.items():
        assert right - left == bottom - top == crop and left >= 0 and top >= 0 and right <= 178 and bottom <= 218


def test_the_default_crop_is_the_face(like_celeba: Path) -> None:
    """The stand-in has one colour in the square of 128 around (89, 121), and noise around it."""
    image = images_of(CelebA(size=128))[3]
    assert (image.flatten(1).float().std(1) < 4).all()


# labels


def test_the_attributes_are_those_of_the_file() -> None:
    assert sorted(get_args(Attribute)) == sorted([*HEADER.split(), "none"])


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("label", ["5_o_Clock_Shadow", "Smiling", "Young"])
def test_an_attribute_makes_two_classes(like_celeba: Path, label: Any) -> None:
    data = CelebA(label=label, split="all", size=8)
    lines = (like_celeba / "list_attr_celeba.txt").read_text().splitlines()
    column = lines[1].split().index(label)
    assert [int(data[i].cond["class"]) for i in range(FACES)] == [
        int(int(line.split()[1:][column]) > 0) for line in lines[2:]
    ]
    assert data.spec.classes == class_names(label) and len(data.spec.classes) == 2
    same_item_by_item(data, range(FACES))
    check_dataset(data)


@pytest.mark.parametrize(
    ("attribute", "names"),
    [
        ("Smiling", ("not smiling", "smiling")),
        ("Eyeglasses", ("no eyeglasses", "eyeglasses")),
        ("No_Beard", ("beard", "no beard")),
        ("Wearing_Hat", ("no hat", "hat")),
        ("5_o_Clock_Shadow", ("no 5 o'clock shadow", "5 o'clock shadow")),
        ("Mouth_Slightly_Open", ("not mouth slightly open", "mouth slightly open")),
        ("none", ()),
    ],
)
def test_the_names_of_the_classes(attribute: Any, names: tuple[str, ...]) -> None:
    assert class_names(attribute) == names


def test_an_unknown_attribute_is_refused() -> None:
    with pytest.raises(PartError, match="Smiling"):
        build("dataset", "celeba", label="Smilling")


def test_the_attributes_are_not_asked_for_without_labels(like_celeba: Path) -> None:
    (like_celeba / "list_attr_celeba.txt").unlink()
    assert len(CelebA(size=8, download=False)) == 6
    with pytest.raises(ValueError, match=r"list_attr_celeba.txt +md5 \w+  missing"):
        CelebA(label="Male", download=False)


def test_what_is_held_out(like_celeba: Path) -> None:
    train = CelebA(size=12, crop=178, label="Male", download=False, memory_gib=0.0, cache=False)
    test = train.held_out()
    assert isinstance(test, CelebA) and len(test) == 4 and test.held_out() is None and test.spec == train.spec
    assert (test.crop, test.label, test.download, test.memory_gib, test.cache) == (178, "Male", False, 0.0, False)
    assert train.tensors() is None and torch.equal(train[2].image, images_of(CelebA(size=12, crop=178))[2])
    assert CelebA(split="valid").held_out() is None and CelebA(split="all").held_out() is None


# where the pictures lie


@pytest.mark.usefixtures("no_network")
def test_the_zip_and_the_unpacked_folder_give_the_same(like_celeba: Path) -> None:
    packed = CelebA(size=8, split="all", label="Bald")
    with zipfile.ZipFile(like_celeba / ZIP) as file:
        file.extractall(like_celeba)
    (like_celeba / ZIP).unlink()
    unpacked = CelebA(size=8, split="all", label="Bald")
    assert torch.equal(images_of(packed), images_of(unpacked)) and packed.fingerprint() == unpacked.fingerprint()


@pytest.mark.usefixtures("no_network")
def test_a_folder_that_was_unpacked_in_part_gives_way_to_the_zip(like_celeba: Path) -> None:
    with zipfile.ZipFile(like_celeba / ZIP) as file:
        file.extract("img_align_celeba/000001.jpg", like_celeba)
    assert len(CelebA(size=8, split="all")) == FACES
    (like_celeba / ZIP).unlink()
    with pytest.raises(ValueError, match=r"11 of 12 pictures are not in .*img_align_celeba, the first 000002\.jpg"):
        CelebA(size=8, split="all", download=False)


def test_each_part_is_decoded_once(like_celeba: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmf.files.index.WORTH_PICTURES", 0)
    first = [images_of(CelebA(size=8, split=split)).clone() for split in ("train", "test")]
    monkeypatch.setattr("dmf.files.reading.decode", lambda *a, **k: pytest.fail("it is decoded again"))
    again = [images_of(CelebA(size=8, split=split, label="Male")) for split in ("train", "test")]
    assert all(map(torch.equal, first, again))


def test_a_damaged_picture_is_named(like_celeba: Path) -> None:
    with zipfile.ZipFile(like_celeba / ZIP) as file:
        file.extractall(like_celeba)
    damaged = like_celeba / "img_align_celeba/000004.jpg"
    damaged.write_bytes(damaged.read_bytes()[:300])
    with pytest.raises(UserError, match=r"000004\.jpg cannot be read"):
        CelebA(size=8)
    Image.new("RGB", (64, 64)).save(damaged)
    with pytest.raises(UserError, match=r"000004\.jpg is 64 x 64 pixels .*, too small"):
        CelebA(size=8)


# the host


def complaint(**options: Any) -> str:
    with pytest.raises(ValueError) as error:
        CelebA(**options)
    return str(error.value)


@pytest.fixture
def drive(like_celeba: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host that has the three files that are wanted, by their numbers on Google Drive; here they are not."""
    from torchvision.datasets import CelebA as Theirs

    monkeypatch.setattr(_celeba_files, "DRIVE", f"{host.address}/")
    for number, _, name in Theirs.file_list:
        host.give(f"/{number}", (like_celeba / name).read_bytes())
    shutil.rmtree(like_celeba)
    return host


NUMBER = "/0B7EVK8r0v71pZjFTYXZWM3FlRnM"  # of the zip


def test_what_is_wanted_is_fetched_and_no_more(drive: Host, like_celeba: Path) -> None:
    assert len(CelebA(size=8)) == 6
    assert len(drive.asked) == 2 and NUMBER in drive.asked
    assert len(CelebA(size=8, label="Male")) == 6 and len(drive.asked) == 3, "now the attributes too"
    assert sorted(one.name for one in like_celeba.iterdir() if one.name[0] != ".") == [
        *(ZIP, "list_attr_celeba.txt", "list_eval_partition.txt")
    ]


def test_a_zip_that_google_cannot_scan_comes_all_the_same(drive: Host) -> None:
    content = drive.answers[NUMBER].content
    drive.give(NUMBER, NO_VIRUS_SCAN.format(id="x"))
    drive.give("/confirmed?id=x&confirm=t", content)
    assert len(CelebA(size=8)) == 6


@pytest.mark.parametrize("status", [200, 403])
def test_too_many_users(drive: Host, like_celeba: Path, status: int) -> None:
    drive.give(NUMBER, TOO_MANY, status=status)
    text = complaint()
    assert f"CelebA is not (whole) in {like_celeba}" in text
    assert "Too many users have viewed or downloaded this file recently" in text and f"{ZIP} did not come" in text
    states = {line.split()[0]: line.split("  ")[-1] for line in text.splitlines() if "  md5 " in line}
    assert states == {"list_eval_partition.txt": "ok", ZIP: "missing"}
    assert "projects/CelebA.html" in text and "try again the next day" in text
    assert f"put them into {like_celeba}" in text and "the folder that holds celeba" in text
    asked = len(drive.asked)
    assert ZIP in complaint() and len(drive.asked) == asked + 1, "what has come is not fetched again"


def test_a_page_that_was_saved_as_the_zip(like_celeba: Path) -> None:
    (like_celeba / ZIP).write_text(TOO_MANY)
    text = complaint(download=False)
    row = next(line for line in text.splitlines() if line.startswith(f"  {ZIP} "))
    assert row.endswith("damaged: it is a web page") and "download is false" in text


def test_a_page_that_was_saved_as_the_zip_is_replaced(like_celeba: Path, host: Host, monkeypatch: Any) -> None:
    monkeypatch.setattr(_celeba_files, "DRIVE", f"{host.address}/")
    host.give(NUMBER, (like_celeba / ZIP).read_bytes())
    (like_celeba / ZIP).write_text(TOO_MANY)
    assert len(CelebA(size=8)) == 6


def test_a_zip_that_was_cut_short(like_celeba: Path, host: Host, monkeypatch: Any) -> None:
    """What another program's broken download leaves under the name of the file; and ours never."""
    monkeypatch.setattr(_celeba_files, "DRIVE", f"{host.address}/")
    whole = (like_celeba / ZIP).read_bytes()
    (like_celeba / ZIP).write_bytes(whole[: len(whole) // 2])
    assert any(
        line.startswith(f"  {ZIP} ") and line.endswith("damaged") for line in complaint(download=False).splitlines()
    )
    host.give(NUMBER, whole, stops_after=len(whole) // 3)
    text = complaint()
    assert f"the transfer broke off after {len(whole) // 3} of {len(whole)} bytes" in text
    assert (like_celeba / ZIP).stat().st_size == len(whole) // 2 and not list(like_celeba.glob("*.part"))
    host.give(NUMBER, whole)
    assert len(CelebA(size=8)) == 6 and (like_celeba / ZIP).read_bytes() == whole


@pytest.mark.usefixtures("no_network")
def test_without_a_network(tmp_path: Path) -> None:
    text = complaint(root=str(tmp_path), label="Smiling")
    # the md5s of torchvision
    for name, md5 in (
        (ZIP, "00d2c5bc6d35e252742224ab0c1e8fcb"),
        ("list_attr_celeba.txt", "75e246fa4810816ffd6ee81facbd244c"),
    ):
        row = next(line for line in text.splitlines() if line.split()[:1] == [name])
        assert row.split()[1:] == ["md5", md5, "missing"]
    assert "Name or service not known" in text and "https://drive.usercontent.google.com" in text


def test_no_network_is_tried_when_told_not_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmf.files.download.urlopen", lambda *a, **k: pytest.fail("it went to the network"))
    assert "download is false, so none was tried" in complaint(root=str(tmp_path / "none"), download=False)
    assert not (tmp_path / "none").exists()
