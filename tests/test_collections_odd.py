"""Links, odd names and odd files among pictures: read, or told in words, and nothing hangs."""

import os
import socket
from pathlib import Path

import pytest
from collections_kit import (  # noqa: F401  (fixtures)
    PETS,
    as_nobody,
    complaint,
    files,
    in_time_fixture,
    names,
    open_folder_fixture,
    opened,
    pets_fixture,
    trouble,
)

from dmf.core import LeftOut
from dmf.files.listing import natural
from dmf.registry import UserError

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
