"""Zips of pictures read in place: layouts and names."""

import random
import unicodedata
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from collections_kit import complaint, labelled, names, opened, packed
from zips_kit import pets_fixture  # noqa: F401  (fixtures)

# layouts and names


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_are_read_in_place(tmp_path: Path, method: int) -> None:
    contents = {f"{kind}/{i}.png": random.Random(i).randbytes(i * 999 + 1) for kind in "ab" for i in range(12)}
    path = packed(tmp_path / "a.zip", contents, method)
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())  # as one that unpacks itself begins
    held = opened(path)
    assert {one.name: held.read(one) for one in held.entries} == contents and held.classes == ("a", "b")
    with zipfile.ZipFile(path) as file:
        assert [(one.size, one.stamp) for one in held.entries] == [
            (file.getinfo(one.name).file_size, str(file.getinfo(one.name).CRC)) for one in held.entries
        ]


def test_a_zip_written_in_one_go_is_read(tmp_path: Path) -> None:
    """Its members' own heads do not know their sizes, and there is more in them than names."""

    with open(tmp_path / "a.zip", "wb") as out:
        pipe = SimpleNamespace(write=out.write, flush=out.flush)  # no going back in it
        with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as file:  # type: ignore[call-overload]
            with file.open("x/1.png", "w", force_zip64=True) as member:
                member.write(b"one" * 99)
            file.writestr("y/2.png", b"two")
    held = opened(tmp_path / "a.zip")
    assert [held.read(one) for one in held.entries] == [b"one" * 99, b"two"]


def test_a_folder_around_all_is_looked_into_once(tmp_path: Path) -> None:
    contents = {"pets/cat/1.png": b"1", "pets/dog/2.png": b"2", "__MACOSX/pets/._x.png": b"", ".DS_Store": b"x"}
    held = opened(packed(tmp_path / "a.zip", contents))
    assert labelled(held) == {"cat/1.png": "cat", "dog/2.png": "dog"} and not held.others
    assert held.source(held.entries[0]) == f"{tmp_path}/a.zip:pets/cat/1.png"
    flat = opened(packed(tmp_path / "b.zip", {"pets/1.png": b"1", "pets/dataset.json": b'{"1.png": "cat"}'}))
    assert labelled(flat) == {"1.png": "cat"}
    deep = opened(packed(tmp_path / "c.zip", {"x/y/cat/1.png": b"1", "x/y/dog/2.png": b"2"}))
    assert names(deep) == ["y/cat/1.png", "y/dog/2.png"] and deep.classes == ()
    beside = opened(packed(tmp_path / "d.zip", {"pets/1.png": b"1", "read.me": b"x"}))
    assert names(beside) == ["pets/1.png"]


@pytest.mark.parametrize("top", ["", "pets64/"])
def test_a_zip_of_a_prepared_set_is_its_pictures(tmp_path: Path, top: str) -> None:
    inner = ["manifest.jsonl", "samples.png", "images/cat/0.png", "images/dog/1.png"]
    held = opened(packed(tmp_path / "a.zip", {f"{top}{name}": b"x" for name in inner}))
    assert labelled(held) == {"cat/0.png": "cat", "dog/1.png": "dog"} and not held.others
    assert held.source(held.entries[0]) == f"{tmp_path}/a.zip:{top}images/cat/0.png"
    other = opened(packed(tmp_path / "b.zip", {f"{top}manifest.jsonl": b"x", f"{top}1.png": b"1"}))
    assert names(other) == ["1.png"], "a manifest of something else"


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    contents = {"a/1.png": b"1", "b/.2.png": b"2", ".git/3.png": b"3", "__MACOSX/a/4.png": b"4", "b/5.png": b"5"}
    assert names(opened(packed(tmp_path / "a.zip", contents))) == ["a/1.png", "b/5.png"]


def test_a_zip_in_a_zip_is_passed_over_and_told(tmp_path: Path, pets: Path) -> None:
    path = packed(tmp_path / "a.zip", {"1.png": b"1", "more.zip": pets.read_bytes()})
    assert names(opened(path)) == ["1.png"] and opened(path).others == ("more.zip",)
    assert "1 other file (1 .zip)" in complaint(packed(tmp_path / "b.zip", {"more.zip": pets.read_bytes()}))


def test_an_empty_zip(tmp_path: Path) -> None:
    assert complaint(packed(tmp_path / "a.zip", {})).startswith(f"{tmp_path}/a.zip is empty; give a folder or a zip")


@pytest.mark.parametrize("name", ["ж/猫 1.png", "é/🐈.png", "x" * 251 + ".png", "/".join(["d" * 200] * 30) + "/a.png"])
def test_names_of_all_scripts_and_lengths(tmp_path: Path, name: str) -> None:
    held = opened(packed(tmp_path / "a.zip", {name: b"x", "other/1.png": b"y"}))
    assert name in names(held) and {held.read(one) for one in held.entries} == {b"x", b"y"}


def renamed(path: Path, old: bytes, new: bytes) -> Path:
    """The zip with another name of the same length, whose encoding it does not say."""
    assert len(old) == len(new)
    path.write_bytes(path.read_bytes().replace(old, new))
    return path


def test_names_without_a_flag_are_utf_8_or_that_of_old_dos(tmp_path: Path) -> None:
    held = opened(renamed(packed(tmp_path / "a.zip", {"AAA.png": b"x"}), b"AAA.png", "猫.png".encode()))
    assert names(held) == ["猫.png"] and held.read(held.entries[0]) == b"x"
    held = opened(renamed(packed(tmp_path / "b.zip", {"A.png": b"x"}), b"A.png", b"\x82.png"))
    assert names(held) == ["é.png"] and held.read(held.entries[0]) == b"x"


def test_a_name_flagged_as_utf_8_that_is_none_is_refused(tmp_path: Path) -> None:
    path = renamed(packed(tmp_path / "a.zip", {"é.png": b"x", "b.png": b"y"}), "é.png".encode(), b"\xc3\xff.png")
    assert f"{path} is a zip that is cut short or damaged" in complaint(path)


def test_backslashes_are_slashes(tmp_path: Path) -> None:
    held = opened(packed(tmp_path / "a.zip", {"cat\\1.png": b"1", "dog\\2.png": b"2", "dog\\more\\": b""}))
    assert labelled(held) == {"cat/1.png": "cat", "dog/2.png": "dog"}
    assert [held.read(one) for one in held.entries] == [b"1", b"2"]


def test_a_number_of_five_thousand_digits_sorts(tmp_path: Path) -> None:
    long = {"9" * 5000 + ".png": b"1", "8" * 5000 + ".png": b"2", "3.png": b"3"}
    assert names(opened(packed(tmp_path / "a.zip", long))) == sorted(long, key=lambda name: (len(name), name))


def test_labels_lie_in_the_zip_or_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {"1.png": b"1", "2.png": b"2"}
    (tmp_path / "outside.json").write_text('{"1.png": "x", "2.png": "y"}')
    for top in ("", "pets/"):
        inner = {f"{top}{name}": content for name, content in contents.items()}
        inner[f"{top}sub/labels.json"] = b'{"1.png": 1, "2.png": 0}'
        inner[f"{top}sub/classes.json"] = b'["cat", "dog"]'
        path = packed(tmp_path / "a.zip", inner)
        assert labelled(opened(path, "sub/labels.json")) == {"1.png": "dog", "2.png": "cat"}
        assert not opened(path, "sub/labels.json").others
        assert labelled(opened(path, str(tmp_path / "outside.json"))) == {"1.png": "x", "2.png": "y"}
        assert f"no file {path}:{top}labels.json" in complaint(path, "labels.json")


def test_accents_may_be_composed_or_not(tmp_path: Path) -> None:
    apart, composed = (unicodedata.normalize(form, "é.png") for form in ("NFD", "NFC"))
    assert apart != composed
    contents = {apart: b"1", "dataset.json": f'{{"{composed}": "cat"}}'.encode()}
    held = opened(packed(tmp_path / "a.zip", contents))
    assert labelled(held) == {apart: "cat"} and not held.trouble
