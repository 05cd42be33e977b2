"""Folders and zips of pictures: what is found, in which order, with which labels."""

import os
import pickle
import shutil
from array import array
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from collections_kit import PETS, complaint, files, labelled, names, opened, pets_fixture  # noqa: F401  (fixtures)
from PIL import Image

from dmf.files.collection import Entries, Entry, endings, told_others
from dmf.files.folder import read_file
from dmf.files.listing import inside, natural
from dmf.files.words import printable
from dmf.registry import UserError

# layouts


@pytest.mark.parametrize("layout", ["folder", "zip", "zip with a top folder"])
def test_a_folder_and_a_zip_of_it_are_the_same_collection(pets: Path, tmp_path: Path, layout: str) -> None:
    root = pets
    if layout != "folder":
        below = {"root_dir": pets} if layout == "zip" else {"root_dir": tmp_path, "base_dir": "pets"}
        root = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", **below))
    held = opened(root)
    assert held.root == root and held.classes == ("cat", "dog") and names(held) == list(PETS)
    assert [one.label for one in held.entries] == [0, 0, 0, 1, 1] and not held.trouble and held.others == ("notes.txt",)
    assert [one.size for one in held.entries] == [len(name) for name in PETS]
    assert [held.read(one) for one in held.entries] == [name.encode() for name in PETS]
    inner = {"folder": "/", "zip": ":", "zip with a top folder": ":pets/"}[layout]
    assert held.source(held.entries[0]) == f"{root}{inner}cat/img1.png"
    assert opened(root, "none").classes == () and opened(root, "none").entries[0].label is None


def test_classes_are_by_name_in_the_order_of_a_person(tmp_path: Path) -> None:
    held = opened(files(tmp_path, "class10/a.png", "class9/a.png", "class9/a/b.png", "class1/2.png", "class1/10.png"))
    assert held.classes == ("class1", "class9", "class10")
    assert names(held) == ["class1/2.png", "class1/10.png", "class9/a.png", "class9/a/b.png", "class10/a.png"]
    assert list(labelled(held).values()) == ["class1", "class1", "class9", "class9", "class10"]


def test_classes_that_sort_otherwise_by_path_keep_their_pictures(tmp_path: Path) -> None:
    held = opened(files(tmp_path, "a b/1.png", "a/1.png", "a-c/1.png"))  # "a-c/" comes before "a/", "a" before "a-c"
    assert labelled(held) == {name: name.partition("/")[0] for name in names(held)} and len(held.entries) == 3


def test_numbers_in_names_count_and_may_have_any_length() -> None:
    assert sorted(["b2", "b10", "b02", "a", "B1", "7", "b"], key=natural) == ["7", "B1", "a", "b", "b02", "b2", "b10"]
    long, longer = "9" * 5000, "1" + "0" * 5000
    assert sorted([longer, long, "3"], key=natural) == ["3", long, longer]


@pytest.mark.parametrize("where", ["", "photos/", "photos/2024/"])
def test_pictures_without_classes_are_found_below(tmp_path: Path, where: str) -> None:
    held = opened(files(tmp_path, *(f"{where}{number}.png" for number in (10, 2, 1))))
    assert held.classes == () and labelled(held) == {f"{where}{n}.png": None for n in (1, 2, 10)}


def test_the_home_folder_may_be_written_short(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(pets.parent))
    assert opened(Path("~/pets")).root == pets


def test_one_image(tmp_path: Path) -> None:
    held = opened(files(tmp_path, "only.png"))
    stamp = str((tmp_path / "only.png").stat().st_mtime_ns)
    assert list(held.entries) == [Entry("only.png", 8, stamp, None)]


def test_one_folder_is_a_class_where_it_is_said(tmp_path: Path) -> None:
    root = files(tmp_path / "one", "cat/1.png")
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", root))
    for one in (root, packed):
        assert opened(one).classes == () and opened(one, "folders").classes == ("cat",)


def test_a_class_of_nothing_but_trouble_is_a_class(tmp_path: Path) -> None:
    files(tmp_path, "cat/1.png", "dog/1.png")
    (tmp_path / "cat/1.png").write_bytes(b"")
    assert opened(tmp_path).classes == ("cat", "dog") and labelled(opened(tmp_path)) == {"dog/1.png": "dog"}


def test_a_class_without_a_picture_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files(tmp_path, "cat/1.png", "dog/1.png")
    (tmp_path / "cat/1.png").write_bytes(b"")
    opened(tmp_path)
    assert f"{tmp_path} has no picture of cat" in caplog.text


def test_labels_in_doubt_are_refused(pets: Path) -> None:
    files(pets, "stray.png")
    text = complaint(pets)
    assert f"{pets} has 1 picture in no folder of a class (stray.png)" in text and "labels: none" in text
    assert "no folder of a class (x.webp)" in complaint(pets / "dog/a", "folders")


def test_parts_of_a_set_are_no_classes(tmp_path: Path) -> None:
    files(tmp_path, "train/a.png", "Test/b.png")
    text = complaint(tmp_path)
    assert "Test, train" in text and "give one of them" in text and "labels: folders" in text
    assert opened(tmp_path, "folders").classes == ("Test", "train") and opened(tmp_path, "none").classes == ()


def test_other_files_are_counted(tmp_path: Path) -> None:
    files(tmp_path, "a.png", "b.HEIC", "c.heic", "d.txt", "e", "f.zip")
    others = opened(tmp_path).others
    assert others == ("b.HEIC", "c.heic", "d.txt", "e", "f.zip")
    assert endings(others) == {".heic": 2, ".txt": 1, "": 1, ".zip": 1}
    assert told_others(others) == (
        "5 other files (2 .heic, 1 without an ending, 1 .txt, 1 .zip), 2 of a format that is not read: write them as "
        "PNG or JPEG"
    )
    assert told_others(["a.txt"]) == "1 other file (1 .txt)"


@pytest.mark.parametrize("ending", ["avif", "jp2", "j2k", "mpo", "dib", "jpe"])
def test_pictures_of_rarer_endings_are_found(tmp_path: Path, ending: str) -> None:
    Image.new("RGB", (20, 20), "red").save(tmp_path / f"a.{ending}")
    (entry,) = opened(tmp_path).entries
    assert opened(tmp_path).read(entry) == (tmp_path / f"a.{ending}").read_bytes()


# nothing there


def test_an_empty_folder(tmp_path: Path) -> None:
    assert complaint(tmp_path).startswith(f"{tmp_path} is empty; give a folder or a zip with PNG or JPEG files")


def test_no_pictures(tmp_path: Path) -> None:
    files(tmp_path, "a.heic", "b.heic", "c")
    assert "has no pictures in it, but 3 other files (2 .heic, 1 without an ending), 2 of a" in complaint(tmp_path)
    files(tmp_path, "d.zip")
    assert complaint(tmp_path).endswith("or the zip itself")


def test_no_folder(tmp_path: Path) -> None:
    assert f"{tmp_path / 'none'} is not there; give the folder or the zip" in complaint(tmp_path / "none")
    assert "is not there" in complaint(tmp_path / ("x" * 300)) and "is not there" in complaint(tmp_path / "a\0b")
    assert "is not there" in complaint(Path("~nobody-of-that-name/pets"))
    os.mkfifo(tmp_path / "pipe")
    assert "pipe is neither a folder nor a zip" in complaint(tmp_path / "pipe")


def test_labels_of_no_known_kind(pets: Path) -> None:
    text = complaint(pets, "folder")
    assert f"no file {pets / 'folder'}" in text and "auto, folders, none or the path of a JSON file" in text


# many, and by many


def test_threads_forks_and_pickles_read_the_same(pets: Path, tmp_path: Path) -> None:
    many = [f"{i}.png" for i in range(200)]
    root = files(tmp_path / "many", *many)
    for place in (root, Path(shutil.make_archive(str(tmp_path / "many"), "zip", root))):
        held = opened(place)
        again = pickle.loads(pickle.dumps(held))
        assert list(again.entries) == list(held.entries) and again.trouble == held.trouble
        for one in (held, again):
            with ThreadPoolExecutor(8) as pool:
                assert list(pool.map(one.read, [*one.entries] * 5)) == [name.encode() for name in many] * 5


def test_a_hundred_thousand_are_pickled_as_columns() -> None:
    entries = Entries([f"{i}.png" for i in range(1000)], *([array("q", range(1000))] * 3))
    assert len(pickle.dumps(entries)) < 1000 * 40
    assert entries[-1] == Entry("999.png", 999, "999", 999) and [one.label for one in entries[3:5]] == [3, 4]
    assert next(reversed(entries)) == entries[999] and entries[5] in entries
    with pytest.raises(IndexError):
        entries[1000]


def test_the_stamp_changes_with_the_file(pets: Path) -> None:
    before = opened(pets).entries
    os.utime(pets / "cat/img2.png", ns=(1, 2))
    after = opened(pets).entries
    assert [i for i in range(5) if before[i] != after[i]] == [1] and after[1].stamp == "2"


def test_a_file_that_grows_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, fstat = tmp_path / "a.png", os.fstat
    file.write_bytes(b"0123456789")

    def slower(number: int) -> os.stat_result:
        found = fstat(number)
        with open(file, "ab") as more:
            more.write(b"more")
        return found

    assert read_file(file) == b"0123456789"
    monkeypatch.setattr(os, "fstat", slower)
    with pytest.raises(UserError, match=r"a\.png grew while it was read; wait until it is written"):
        read_file(file)


@pytest.mark.parametrize(
    ("name", "here"),
    [
        ("a.png", "a.png"),
        ("./a//b/./c.png", "a/b/c.png"),
        ("a\\b.png", "a/b.png"),
        ("..a/b..png", "..a/b..png"),
        ("a:b.png", "a:b.png"),
        ("../a.png", None),
        ("a/../b.png", None),
        ("a\\..\\..\\b.png", None),
        ("/a.png", None),
        ("\\a.png", None),
        ("C:\\a.png", None),
        ("c:/a.png", None),
    ],
)
def test_paths_as_they_are_written(name: str, here: str | None) -> None:
    assert inside(name) == here


def test_what_cannot_be_shown_is_escaped() -> None:
    assert printable("é 猫.png") == "é 猫.png" and printable("a\x1b[2J\n\udcff") == r"a\x1b[2J\n\udcff"
