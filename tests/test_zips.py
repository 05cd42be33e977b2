"""Zips of pictures read in place: layouts, names, and whatever a zip may hold that is to be refused, in words."""

import os
import pickle
import random
import struct
import tracemalloc
import unicodedata
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from collections_kit import (  # noqa: F401  (fixtures)
    as_nobody,
    complaint,
    in_time_fixture,
    labelled,
    names,
    open_folder_fixture,
    opened,
    packed,
    trouble,
)
from conftest import FULL

from dmf.files.collection import Collection
from dmf.registry import UserError

ROUNDS = 30_000 if FULL else 3_000
# where a field lies in a member's record of the directory (APPNOTE 4.3.12), and its form
FIELDS = {"flags": (8, "<H"), "method": (10, "<H"), "crc": (16, "<I"), "packed": (20, "<I"), "size": (24, "<I")}
FIELDS |= {"mode": (40, "<H"), "at": (42, "<I")}


def patched(path: Path, name: str, **fields: int) -> Path:
    """The zip with other numbers in the directory for one member."""
    content = bytearray(path.read_bytes())
    record = content.rindex(name.encode(), 0, content.rindex(b"PK\5\6")) - 46
    assert content[record : record + 4] == b"PK\1\2"
    for key, value in fields.items():
        offset, form = FIELDS[key]
        struct.pack_into(form, content, record + offset, value)
    path.write_bytes(content)
    return path


def read_error(held: Collection, i: int = 0) -> str:
    with pytest.raises(UserError) as error:
        held.read(held.entries[i])
    return str(error.value)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two pictures, a class each."""
    return packed(tmp_path / "pets.zip", {"cat/1.png": b"cat one " * 9, "dog/2.png": b"dog two"})


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


# no zip, or a damaged one


def test_a_file_that_is_no_zip(tmp_path: Path) -> None:
    for content in (b"this is no zip", b"", b"\x89PNG\r\n\x1a\n" + bytes(100)):
        (tmp_path / "a.zip").write_bytes(content)
        text = complaint(tmp_path / "a.zip")
        assert f"{tmp_path}/a.zip is a file, but no zip" in text and text.endswith("give a folder or a zip")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
def test_a_zip_that_is_cut_short(tmp_path: Path, kept: float) -> None:
    path = packed(tmp_path / "a.zip", {f"{i}.png": random.Random(i).randbytes(500) for i in range(9)})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    text = complaint(path)
    assert f"{path} is a zip that is cut short or damaged" in text and text.endswith("copy it anew")


def test_a_zip_with_its_middle_gone(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", {f"{i}.png": random.Random(i).randbytes(500) for i in range(9)})
    content = path.read_bytes()
    path.write_bytes(content[:1000] + content[2000:])
    assert "a.zip" in complaint(path)
    path.write_bytes(content[1000:])
    assert "a.zip" in complaint(path)


def test_a_directory_that_points_beyond_the_end(pets: Path) -> None:
    text = complaint(patched(pets, "dog/2.png", packed=10**6))
    assert "is cut short: it has" in text and "copy it anew" in text


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = packed(tmp_path / "a.zip", {"cat/1.png": bytes(range(200)), "dog/2.png": b"two"}, method)
        content = bytearray(path.read_bytes())
        content[60] ^= 0xFF
        path.write_bytes(content)
        held = opened(path)
        text = read_error(held)
        assert text.startswith(f"{path}:cat/1.png is damaged, or the zip has changed since") and "take" in text
        assert held.read(held.entries[1]) == b"two"


def test_bytes_that_cannot_be_unpacked(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", {"1.png": b"\xff" * 99}, zipfile.ZIP_STORED)
    text = read_error(opened(patched(path, "1.png", method=8)))
    assert f"{path}:1.png is damaged" in text and "invalid block type" in text


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"size": 71}, "does not have the 71 bytes"),
        ({"size": 73}, "does not have the 73 bytes"),
        ({"crc": 5}, "its checksum is another"),
        ({"packed": 3}, "does not have the 72 bytes"),
        ({"at": 1}, "does not begin where the zip says"),
        ({"method": 0}, "does not have the 72 bytes"),
    ],
)
def test_a_directory_that_lies_is_found_out(pets: Path, fields: dict[str, int], why: str) -> None:
    held = opened(patched(pets, "cat/1.png", **fields))
    assert f"{pets}:cat/1.png is damaged" in read_error(held) and why in read_error(held)


def test_a_zip_that_is_replaced_or_goes_away(pets: Path) -> None:
    held = opened(pets)
    far = pickle.dumps(held)
    other = packed(pets.with_name("other.zip"), {"cat/1.png": b"CAT ONE " * 9, "dog/2.png": b"dog two"})
    os.replace(other, pets)
    assert held.read(held.entries[0]) == b"cat one " * 9, "what was opened stays"
    assert "the zip has changed since it was opened" in read_error(pickle.loads(far))
    pets.unlink()
    assert f"{pets}:cat/1.png cannot be read (No such file or directory)" in read_error(pickle.loads(far))


def test_a_zip_that_may_not_be_read(open_folder: Path) -> None:
    path = packed(open_folder / "a.zip", {"1.png": b"1"})
    path.chmod(0)
    assert as_nobody(lambda: complaint(path)) == f"{path} cannot be read (Permission denied); make it readable"


# members that are refused


@pytest.mark.parametrize(
    "name", ["../evil.png", "a/../../evil.png", "/etc/evil.png", "..\\evil.png", "C:\\evil.png", "../.hidden", "../"]
)
def test_names_that_lead_out_refuse_the_zip(tmp_path: Path, name: str) -> None:
    text = complaint(packed(tmp_path / "a.zip", {"cat/1.png": b"1", name: b"x"}))
    assert f"{tmp_path}/a.zip has the name {name!r}, which leads out of the zip" in text and "pack it anew" in text


def test_links_in_a_zip_are_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, mode in {"link.png": 0o120777, "pipe.png": 0o010644, "own.png": 0o100644, "dos.png": 0}.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            file.writestr(info, b"/etc/passwd")
    held = opened(path)
    assert names(held) == ["dos.png", "own.png"]
    assert trouble(held) == {
        "link.png": "is a link, not a file; pack the file that it leads to",
        "pipe.png": "is no file; take it out",
    }


def test_an_encrypted_member(pets: Path) -> None:
    held = opened(patched(pets, "cat/1.png", flags=1))
    assert trouble(held) == {"cat/1.png": "is encrypted; pack it anew without a password"}
    assert names(held) == ["dog/2.png"] and held.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("method", "word"), [(12, "bzip2"), (14, "LZMA"), (9, "deflate64"), (93, "zstd"), (77, "method 77")]
)
def test_a_packing_that_is_not_known(pets: Path, method: int, word: str) -> None:
    held = opened(patched(pets, "cat/1.png", method=method))
    assert trouble(held) == {"cat/1.png": f"is packed with {word}; pack it anew with deflate"}


def test_a_name_that_is_there_twice(tmp_path: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        warnings.simplefilter("ignore")
        for name, content in [("a.png", b"1"), ("b.png", b"2"), ("a.png", b"3"), ("x\\c.png", b"4"), ("x/c.png", b"5")]:
            file.writestr(name, content)
    held = opened(tmp_path / "a.zip")
    assert names(held) == ["b.png"] and set(trouble(held)) == {"a.png", "x/c.png"}
    assert trouble(held)["a.png"] == "is in the zip more than once; pack it anew"


def test_an_empty_member(tmp_path: Path) -> None:
    held = opened(packed(tmp_path / "a.zip", {"a.png": b"", "b.png": b"x"}))
    assert trouble(held) == {"a.png": "is empty; pack it anew, or take it out"} and names(held) == ["b.png"]


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", {"bomb.png": bytes(2**27), "good.png": b"x"})
    held = opened(path)
    assert names(held) == ["good.png"]
    assert (
        "unpacks from 130," in trouble(held)["bomb.png"] and "like a zip bomb; take it out" in trouble(held)["bomb.png"]
    )


def test_a_member_beyond_what_a_picture_may_have(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", {"a.png": random.Random(0).randbytes(11_000_000)}, zipfile.ZIP_STORED)
    assert len(opened(path).entries) == 1
    patched(path, "a.png", size=2**30 + 1, method=8)  # less than 100 times as much
    assert "unpacks from 11,000,000 to 1,073,741,825 bytes" in complaint(path)


def test_a_zip_bomb_that_lies_about_its_size_is_not_unpacked(tmp_path: Path) -> None:
    path = patched(packed(tmp_path / "a.zip", {"bomb.png": bytes(2**27)}), "bomb.png", size=1000)
    held = opened(path)
    tracemalloc.start()
    try:
        assert "does not have the 1000 bytes" in read_error(held)
        assert tracemalloc.get_traced_memory()[1] < 2**21, "its packed bytes and no more"
    finally:
        tracemalloc.stop()


def test_members_that_share_bytes_are_refused(tmp_path: Path) -> None:
    """A zip bomb by Fifield (2019, A better zip bomb): many members, one kernel."""
    path = patched(packed(tmp_path / "a.zip", {"a.png": bytes(9999), "b.png": b"x"}), "b.png", at=0, packed=28)
    text = complaint(path)
    assert "b.png lies over another file" in text or "a.png lies over another file" in text
    path = patched(packed(tmp_path / "a.zip", {"a.png": bytes(9999), "b.png": b"x"}), "b.png", at=20)
    assert f"{path}:b.png lies over another file of the zip, as in zip bombs and damaged zips" in complaint(path)


# anything at all


def damaged(content: bytes, rng: random.Random) -> bytes:
    """With one to four pieces changed, most of them in the directory."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        directory = changed.find(b"PK\1\2")
        start = directory if directory > 0 and rng.random() < 0.6 else 0
        at = rng.randrange(start, max(len(changed), start + 1))
        what = rng.randrange(8)
        if what < 3:
            changed[at : at + 1] = bytes([rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])])
        elif what < 5:
            width = rng.choice([2, 4, 8])
            changed[at : at + width] = rng.choice([b"\xff" * width, bytes(width), rng.randbytes(width)])
        elif what == 5:
            del changed[at : at + rng.choice([1, 4, 30, 300])]
        elif what == 6:
            changed[at:at] = rng.choice(
                [b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", rng.randbytes(5), changed[at : at + 60]]
            )
        else:
            other = rng.randrange(len(changed) + 1)
            changed[at : at + 46] = changed[other : other + 46]
    return bytes(changed)


def test_any_damage_gives_a_collection_or_a_user_error(tmp_path: Path) -> None:
    contents = {f"{kind}/{i}.png": random.Random(i).randbytes(40) + bytes(60) for kind in "ab" for i in range(3)}
    contents["dataset.json"] = b'{"a/0.png": 0, "a/1.png": 0, "a/2.png": 0, "b/0.png": 1, "b/1.png": 1, "b/2.png": 1}'
    path = packed(tmp_path / "a.zip", contents)
    whole, rng, seen = path.read_bytes(), random.Random(0), {"refused": 0, "read": 0, "damaged": 0}
    for _ in range(ROUNDS):
        content = damaged(whole, rng)
        path.write_bytes(content)
        try:
            seen[outcome(path)] += 1
        except Exception as error:
            kept = tmp_path / "culprit.zip"
            kept.write_bytes(content)
            pytest.fail(f"{type(error).__name__}: {error} for {kept}")
    assert min(seen.values()) > ROUNDS // 100, f"the damage tests only one side: {seen}"


def outcome(path: Path) -> str:
    try:
        held = opened(path)
    except UserError as error:
        assert path.name in str(error)
        return "refused"
    pickle.dumps(held)
    whole = True
    for one in held.entries:
        try:
            assert len(held.read(one)) == one.size
        except UserError as error:
            assert path.name in str(error)
            whole = False
    return "read" if whole else "damaged"
