"""Folders and zips of pictures: what is found, in which order, with which labels; what is in the way, in words."""

import os
import pickle
import shutil
import socket
from array import array
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from collections_kit import (  # noqa: F401  (fixtures)
    as_nobody,
    complaint,
    files,
    in_time_fixture,
    labelled,
    names,
    open_folder_fixture,
    opened,
    trouble,
)
from PIL import Image

from dmf.core import LeftOut
from dmf.files.collection import Entries, Entry, endings, told_others
from dmf.files.folder import read_file
from dmf.files.listing import inside, natural
from dmf.files.words import printable
from dmf.registry import UserError

PETS = ("cat/img1.png", "cat/img2.png", "cat/img10.jpg", "dog/a/x.webp", "dog/b.bmp")


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return files(tmp_path / "pets", *PETS, "notes.txt", "cat/.hidden.png", ".git/x.png", "__MACOSX/cat/a.png")


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


# links


def test_broken_links_of_any_kind_are_trouble(pets: Path) -> None:
    """Of pictures, of a class, of one folder to itself; a link into a file."""
    ends = {"cat/gone.png": "/nowhere/1.png", "bird": "../birds", "dog/round": "round", "cat/under.png": "img1.png/x"}
    for name, end in ends.items():
        (pets / name).symlink_to(end)
    held = opened(pets)
    assert names(held) == list(PETS) and list(trouble(held)) == sorted(ends, key=natural)
    for name, reason in trouble(held).items():
        assert reason == f"is a link to {ends[name]}, which is not there; put it there, or delete the link"


def test_nothing_but_trouble_is_an_error_that_lists_it(tmp_path: Path) -> None:
    for number in range(13):
        (tmp_path / f"{number}.png").symlink_to("/nowhere")
    text = complaint(tmp_path)
    assert "has no picture that can be used:\n  0.png is a link to /nowhere" in text
    assert text.count("\n") == 11 and text.endswith("and 3 more")


def test_links_are_followed_and_loops_end(pets: Path, tmp_path: Path) -> None:
    files(tmp_path / "elsewhere", "far.png", "deep/x.png")
    (pets / "bird").symlink_to(tmp_path / "elsewhere")
    (pets / "dog/back").symlink_to(pets)
    (pets / "dog/here").symlink_to(".")
    held = opened(pets)
    assert names(held) == ["bird/deep/x.png", "bird/far.png", *PETS] and not held.trouble
    assert held.read(held.entries[1]) == b"far.png"


def test_folders_that_link_to_each_other_are_looked_into_once(tmp_path: Path, in_time: None) -> None:
    """Ten such folders have some ten million paths."""
    for i in range(10):
        files(tmp_path, f"all/{i}/{i}.png")
        for k in range(10):
            (tmp_path / f"all/{i}/to{k}").symlink_to(f"../{k}")
    assert names(opened(tmp_path)) == [f"all/{i}/{i}.png" for i in range(10)], "each by its own name"


# odd names and odd files


def test_names_of_all_scripts_and_lengths(tmp_path: Path) -> None:
    odd = ["ж/猫 1.png", "é/🐈.png", f"é/{'x' * 251}.png", "ж/a b\tc\n.png"]
    held = opened(files(tmp_path, *odd))
    assert held.classes == ("é", "ж") and sorted(names(held)) == sorted(odd)
    assert all(held.read(one) == one.name.encode() for one in held.entries)
    by_name = {one.name: held.source(one) for one in held.entries}
    assert by_name[odd[3]] == rf"{tmp_path}/ж/a b\tc\n.png", "a message has one line"


def test_names_that_are_no_utf_8_are_read_and_can_be_shown(tmp_path: Path) -> None:
    raw = os.fsdecode(b"caf\xe9.png")
    held = opened(files(tmp_path, raw, "b.png"))
    entry = next(one for one in held.entries if one.name == raw)
    assert held.read(entry) == b"caf\xe9.png" and held.source(entry) == rf"{tmp_path}/caf\udce9.png"
    (tmp_path / raw).write_bytes(b"")
    (left,) = opened(tmp_path).trouble
    assert left.name.encode() == rb"caf\udce9.png"
    files(tmp_path, os.fsdecode(b"\xff/1.png"), "a/1.png")
    (tmp_path / "b.png").unlink()
    (tmp_path / raw).unlink()
    assert opened(tmp_path).classes == ("a", r"\udcff")


def test_what_lies_deeper_than_a_path_may_be_long_is_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files(tmp_path, "a.png")
    monkeypatch.chdir(tmp_path)
    for _ in range(25):
        Path("d" * 200).mkdir()
        os.chdir("d" * 200)
    Path("b.png").write_bytes(b"x")
    os.chdir(tmp_path)
    held = opened(tmp_path)
    assert names(held) == ["a.png"] and [one.reason for one in held.trouble] == [
        "cannot be looked into (File name too long); make it readable, or take it away"
    ]


def test_many_levels_are_no_matter(tmp_path: Path) -> None:
    deep = "/".join("a" * 1100)
    for level in range(1, 1101):  # os.makedirs recurses
        (tmp_path / "/".join("a" * level)).mkdir()
    (tmp_path / deep / "x.png").write_bytes(b"x")
    assert names(opened(tmp_path)) == [f"{deep}/x.png"]
    for level in range(1100, 0, -1):  # pytest's own clearing recurses
        folder = tmp_path / "/".join("a" * level)
        (folder / "x.png").unlink(missing_ok=True)
        folder.rmdir()


def test_an_empty_file(tmp_path: Path) -> None:
    files(tmp_path, "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    assert opened(tmp_path).trouble == (LeftOut("b.png", "is empty; copy it anew, or take it away"),)


def test_a_file_too_large_to_be_read(tmp_path: Path) -> None:
    files(tmp_path, "a.png")
    with open(tmp_path / "b.png", "wb") as file:
        file.truncate(2**30 + 1)
    assert "has more than 1 GiB" in trouble(opened(tmp_path))["b.png"]


def test_what_is_no_file_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_time: None) -> None:
    files(tmp_path, "a.png", "folder.png/b.png", "late.png")
    os.mkfifo(tmp_path / "pipe.png")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
        (tmp_path / "device.png").symlink_to("/dev/zero")
        held = opened(tmp_path)
        assert trouble(held) == {
            "device.png": "is a device, not a file; take it away",
            "pipe.png": "is a FIFO, not a file; take it away",
            "socket.png": "is a socket, not a file; take it away",
        }
    assert names(held) == ["a.png", "folder.png/b.png", "late.png"]
    (tmp_path / "late.png").unlink()
    os.mkfifo(tmp_path / "late.png")
    with pytest.raises(UserError, match=r"late\.png is a FIFO, not a file; take it away"):
        held.read(held.entries[2])


def test_a_file_that_goes_away_is_named(pets: Path) -> None:
    held = opened(pets)
    (pets / "dog/b.bmp").unlink()
    with pytest.raises(UserError, match=rf"{pets}/dog/b\.bmp is not there \(no such file\); put it there, or"):
        held.read(held.entries[4])
    (pets / "dog/b.bmp").mkdir()
    with pytest.raises(UserError, match=r"b\.bmp is a folder, not a file"):
        held.read(held.entries[4])


def test_a_file_emptied_meanwhile(pets: Path) -> None:
    held = opened(pets)
    (pets / "dog/b.bmp").write_bytes(b"")
    with pytest.raises(UserError, match=r"b\.bmp is empty; copy it anew"):
        held.read(held.entries[4])


def test_a_file_that_may_not_be_read(open_folder: Path) -> None:
    files(open_folder, "a.png", "b.png")
    (open_folder / "b.png").chmod(0)
    held = opened(open_folder)

    def read() -> str:
        with pytest.raises(UserError) as error:
            held.read(held.entries[1])
        return str(error.value)

    assert (
        as_nobody(read) == f"{open_folder}/b.png cannot be read (Permission denied); make it readable, or take it away"
    )


def test_a_folder_that_may_not_be_looked_into(open_folder: Path) -> None:
    files(open_folder, "a/a.png", "b/b.png", "c/c.png")
    (open_folder / "d.png").symlink_to("c/c.png")
    (open_folder / "b").chmod(0)
    (open_folder / "c").chmod(0)
    denied = "(Permission denied); make it readable, or take it away"
    assert as_nobody(lambda: trouble(opened(open_folder))) == {
        "b": f"cannot be looked into {denied}",
        "c": f"cannot be looked into {denied}",
        "d.png": f"cannot be looked at {denied}",  # no broken link
    }
    open_folder.chmod(0o700)
    assert as_nobody(lambda: complaint(open_folder)) == f"{open_folder} cannot be looked into {denied}"


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
