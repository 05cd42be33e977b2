"""Pictures of a user's own: classes from folders, their order, memory, fingerprint, and bad files in words."""

import contextlib
import os
from pathlib import Path
from typing import Any
from unittest import SkipTest

import pytest
import torch
from data_kit import paint, real_data, same_item_by_item
from PIL import Image

from dmf.files.listing import natural
from dmf.plugins.datasets import _picture_set
from dmf.plugins.datasets.image_folder import ImageFolder
from dmf.registry import PartError, UserError, build
from dmf.testing import cases

PETS = ("cat/img1.png", "cat/img2.png", "cat/img10.jpg", "dog/a/x.webp", "dog/b.bmp")


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two classes, and files that are no pictures."""
    for seed, name in enumerate(PETS):
        paint(tmp_path / name, seed=seed)
    for name in ("notes.txt", "cat/.hidden.png", "empty/readme.md", ".git/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no picture")
    return tmp_path


def opened(root: Path, **options: Any) -> ImageFolder:
    return ImageFolder(root=str(root), **{"size": 8, **options})


def names(data: ImageFolder) -> list[str]:
    return [data.name_of(i) for i in range(len(data))]


def complaint(root: Path, **options: Any) -> str:
    with pytest.raises(ValueError) as error:
        opened(root, **options)
    return str(error.value)


# labels and order


def test_a_folder_a_class(pets: Path) -> None:
    data = opened(pets)
    assert data.spec.classes == ("cat", "dog") and data.spec.shape == (3, 8, 8)
    assert names(data) == list(PETS) and data.held_out() is None
    held = data.tensors()
    assert held is not None and held[1]["class"].tolist() == [0, 0, 0, 1, 1]
    same_item_by_item(data, range(5))


def test_classes_and_files_are_in_the_order_of_a_person(tmp_path: Path) -> None:
    for name in ("class10/a.png", "class9/a.png", "class9/a/b.png", "class1/2.png", "class1/10.png", "class1/1.png"):
        paint(tmp_path / name)
    data = opened(tmp_path)
    assert data.spec.classes == ("class1", "class9", "class10")
    assert names(data)[:3] == ["class1/1.png", "class1/2.png", "class1/10.png"]
    assert [int(data[i].cond["class"]) for i in range(6)] == [0, 0, 0, 1, 1, 2]
    assert sorted(["b2", "b10", "b02", "a", "B1", "7", "b"], key=natural) == ["7", "B1", "a", "b", "b02", "b2", "b10"]


def test_classes_that_sort_otherwise_by_path_keep_their_pictures(tmp_path: Path) -> None:
    for name in ("a b/1.png", "a/1.png", "a-c/1.png"):  # "a-c/" comes before "a/", "a" before "a-c"
        paint(tmp_path / name)
    data = opened(tmp_path)
    assert [data.spec.classes[int(data[i].cond["class"])] for i in range(3)] == [
        name.partition("/")[0] for name in names(data)
    ]


@pytest.mark.parametrize("where", ["", "photos/", "photos/2024/"])
def test_pictures_without_classes(tmp_path: Path, where: str) -> None:
    for number in (1, 2, 10):
        paint(tmp_path / f"{where}{number}.png", seed=number)
    data = opened(tmp_path)
    assert data.spec.classes == () and names(data) == [f"{where}{n}.png" for n in (1, 2, 10)]
    assert data[0].cond == {} and data.tensors() is not None and "class" not in data.spec.cond


def test_labels_can_be_left_out_or_asked_for(pets: Path) -> None:
    plain = opened(pets, labels="none")
    assert plain.spec.classes == () and len(plain) == 5
    (pets / "dog/b.bmp").unlink()
    (pets / "dog/a/x.webp").unlink()
    assert opened(pets).spec.classes == () and opened(pets, labels="folders").spec.classes == ("cat",)


def test_labels_in_doubt_are_refused(pets: Path) -> None:
    paint(pets / "stray.png")
    text = complaint(pets)
    assert "has 1 picture in no folder of a class (stray.png)" in text and "labels: none" in text
    assert len(opened(pets, labels="none")) == 6
    flat = pets / "dog/a"
    assert "no folder of a class (x.webp)" in complaint(flat, labels="folders")


def test_parts_of_a_set_are_no_classes(tmp_path: Path) -> None:
    for name in ("train/a.png", "Test/b.png"):
        paint(tmp_path / name)
    text = complaint(tmp_path)
    assert "Test, train" in text and "labels: folders" in text
    assert opened(tmp_path, labels="folders").spec.classes == ("Test", "train")


def test_it_is_told_what_was_found(pets: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "dmf"):
        opened(pets)
    assert f"5 pictures with 2 classes (cat, dog) in {pets}; left out 2 other files (1 .md, 1 .txt)" in caplog.text


def test_one_is_not_told_as_several(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paint(tmp_path / "a/1.png")
    with caplog.at_level("INFO", "dmf"):
        opened(tmp_path, labels="folders")
    assert f"1 picture with 1 class (a) in {tmp_path}" in caplog.text
    (tmp_path / "a/gone.png").symlink_to("/nowhere")
    assert "1 of 2 pictures cannot be used" in complaint(tmp_path)


# memory and fingerprint


def test_a_set_beyond_its_memory_is_read_file_by_file(pets: Path) -> None:
    held, read = opened(pets), opened(pets, memory_gib=0)
    assert held.tensors() is not None and read.tensors() is None
    for i in range(5):
        assert torch.equal(held[i].image, read[i].image) and held[i].cond == read[i].cond
    needed = 5 * 3 * 8 * 8 / 2**30
    assert opened(pets, memory_gib=needed).tensors() is not None
    assert opened(pets, memory_gib=needed * 0.999).tensors() is None


@pytest.mark.parametrize("options", [{}, {"memory_gib": 0.0}, {"labels": "none"}, {"channels": 1, "size": 5}])
def test_it_is_held_to_the_contract(pets: Path, options: dict[str, Any]) -> None:
    for case in cases("dataset", "image_folder", {"root": str(pets), **options}):
        with contextlib.suppress(SkipTest):  # nothing is held out
            case.run()


def test_the_fingerprint_is_of_the_pictures(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(pets).fingerprint()
    assert first == opened(pets, memory_gib=0).fingerprint(), "never of where they are kept"
    assert len({first, opened(pets, size=9).fingerprint(), opened(pets, labels="none").fingerprint()}) == 3
    file = pets / "dog/b.bmp"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    changed = opened(pets).fingerprint()
    assert changed != first, "a pixel of the same size of file"
    file.rename(pets / "dog/c.bmp")
    renamed = opened(pets).fingerprint()
    assert renamed != changed
    moved = pets.rename(pets.with_name("elsewhere"))
    assert opened(moved).fingerprint() == renamed
    monkeypatch.setattr(_picture_set, "CHEAP_BYTES", 0)
    assert opened(moved).fingerprint() not in {first, changed, renamed}


# bad files


def damaged(folder: Path, kind: str) -> Path:
    good = paint(folder / "good.jpg", 64, 64).read_bytes()
    content = {
        "empty.png": b"",
        "text.png": b"this is no picture",
        "cut.jpg": good[: len(good) // 2],
        "cut.png": paint(folder / "x.png", 64, 64).read_bytes()[:500],
        "head.gif": b"GIF89a",
    }[kind]
    (folder / kind).write_bytes(content)
    return folder / kind


@pytest.mark.parametrize("kind", ["text.png", "cut.jpg", "cut.png", "head.gif"])
def test_a_bad_file_is_named_whether_kept_or_read(tmp_path: Path, kind: str) -> None:
    file = damaged(tmp_path, kind)
    text = complaint(tmp_path)
    assert "1 of " in text and f"{file} cannot be read as a picture" in text and "write it anew" in text
    data = opened(tmp_path, memory_gib=0)
    with pytest.raises(UserError, match=f"{file} cannot be read as a picture"):
        data[names(data).index(kind)]


def test_an_empty_path_is_not_the_current_folder(workdir: Path) -> None:
    for root in ("", " "):
        with pytest.raises(UserError, match="root is empty; give the folder or the zip"):
            build("dataset", "image_folder", root=root)


def test_where_files_are_read_one_by_one_empty_ones_are_found_before(tmp_path: Path) -> None:
    damaged(tmp_path, "empty.png")
    assert f"{tmp_path}/empty.png is empty; copy it anew" in complaint(tmp_path, memory_gib=0)
    (tmp_path / "b.png").write_bytes(b"")
    text = complaint(tmp_path, memory_gib=0)
    assert "2 of 4 pictures cannot be used" in text and "/b.png is empty" in text and "on_error: skip" in text


def test_an_empty_file_does_not_hide_other_bad_ones(tmp_path: Path) -> None:
    empty, text = damaged(tmp_path, "empty.png"), damaged(tmp_path, "text.png")
    said = complaint(tmp_path)
    assert "2 of 4 pictures cannot be used" in said and f"{empty} is empty; copy it anew, or take it away" in said
    assert f"{text} cannot be read as a picture" in said


def test_all_bad_files_are_told_at_once(tmp_path: Path) -> None:
    for number in range(13):
        (tmp_path / f"{number}.png").write_bytes(b"bad")
    paint(tmp_path / "good.png")
    text = complaint(tmp_path)
    assert "13 of 14 pictures cannot be used" in text and text.count("cannot be read") == 10 and "and 3 more" in text
    assert text.index("0.png") < text.index("9.png")


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    paint(tmp_path / "a.png", 12, 12)
    assert "a.png has too many pixels, 12 x 12; 100 in all are the most" in complaint(tmp_path)


def test_a_file_that_goes_away_is_named(pets: Path) -> None:
    data = opened(pets, memory_gib=0)
    (pets / "dog/b.bmp").unlink()
    with pytest.raises(UserError, match=r"b\.bmp is not there \(no such file"):
        data[4]


def test_nothing_to_read(tmp_path: Path) -> None:
    assert f"{tmp_path} is empty; give a folder or a zip with PNG" in complaint(tmp_path)
    (tmp_path / "c").write_bytes(b"x")
    assert "has no pictures in it, but 1 other file (1 without an ending)" in complaint(tmp_path)
    for name in ("a.heic", "b.heic", "c"):
        (tmp_path / name).write_bytes(b"x")
    assert "has no pictures in it, but 3 other files (2 .heic, 1 without an ending)" in complaint(tmp_path)
    assert f"{tmp_path / 'none'} is not there" in complaint(tmp_path / "none")
    assert "c is a file, but no zip" in complaint(tmp_path / "c")
    with pytest.raises(PartError, match=r"root.*required|required.*root|root.*missing"):
        build("dataset", "image_folder")


def test_links_are_followed_and_loops_end(pets: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    paint(elsewhere / "far.png")
    (pets / "bird").symlink_to(elsewhere)
    (pets / "dog/back").symlink_to(pets)
    data = opened(pets)
    assert data.spec.classes == ("bird", "cat", "dog") and len(data) == 6


def test_all_broken_links_are_told_at_once(pets: Path) -> None:
    """Of pictures, of a class, of one folder to itself."""
    ends = {"cat/gone.png": "/nowhere/1.png", "bird": "../birds", "dog/round": "round", "cat/under.png": "img1.png/x"}
    for name, end in ends.items():
        (pets / name).symlink_to(end)
    text = complaint(pets)
    assert "4 of 9 pictures cannot be used" in text and "leave them out with on_error: skip" in text
    assert all(f"{pets / name} is a link to {end}, which is not there" in text for name, end in ends.items())
    for number in range(9):
        (pets / f"cat/{number}.png").symlink_to("/nowhere")
    text = complaint(pets)
    assert "13 of 18" in text and text.count("is a link to") == 10 and "and 3 more" in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look at everything")
def test_a_link_into_a_closed_folder_is_not_called_broken(pets: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    closed = tmp_path_factory.mktemp("closed")
    paint(closed / "far.png")
    (pets / "cat/far.png").symlink_to(closed / "far.png")
    closed.chmod(0)
    try:
        assert f"{pets / 'cat/far.png'}: Permission denied" in complaint(pets)
    finally:
        closed.chmod(0o755)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_closed_folder_is_named(pets: Path) -> None:
    (pets / "cat").chmod(0)
    try:
        assert f"{pets / 'cat'}: Permission denied" in complaint(pets)
    finally:
        (pets / "cat").chmod(0o755)


# real pictures


def test_real_flowers_in_folders() -> None:
    data = ImageFolder(root=f"{real_data('flowers5_128')}/flowers5_128", size=16)
    assert data.spec.classes == ("daisy", "dandelion", "rose", "sunflower", "tulip")
    held = data.tensors()
    assert held is not None and held[1]["class"].bincount().tolist() == [764, 1052, 780, 731, 980]


def test_real_flowers_without_folders() -> None:
    root = f"{real_data('flowers12_224_flat')}/flowers12_224_flat"
    assert "train" in complaint(Path(root))
    by_number = ImageFolder(root=f"{root}/train", size=16)  # by its dataset.json
    by_name = ImageFolder(root=f"{root}/train", size=16, labels="labels.json")
    assert by_number.spec.classes == tuple(map(str, range(12))) and by_name.spec.classes[7] == "lily-valley"
    held = by_number.tensors(), by_name.tensors()
    assert held[0] is not None and held[1] is not None and len(by_number) == len(by_name) == 720
    assert torch.equal(held[0][1]["class"], held[1][1]["class"])
    assert ImageFolder(root=f"{root}/train", size=16, labels="none", memory_gib=0).spec.classes == ()
    assert len(ImageFolder(root=root, size=16, labels="none", memory_gib=0)) == 960
