"""Zips that are refused, or members of them: damaged, lying, leading out, too large; told in words."""

import os
import pickle
import random
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import pytest
from collections_kit import as_nobody, complaint, names, open_folder_fixture, opened, packed, trouble  # noqa: F401  (fixtures)
from conftest import FULL
from zips_kit import pets_fixture  # noqa: F401  (fixtures)

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
