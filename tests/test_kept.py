"""Kept files: whole or not there, damage told, no harm where nothing can be kept."""

import errno
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dmf.files import cache
from dmf.files.cache import cache_folder, keep, kept
from dmf.files.words import told_size

HEAD = {"what": "numbers", "list": [1, 2]}


def held(path: Path) -> bytes | None:
    found = kept(path)
    return None if found is None else found.body.tobytes()


@pytest.mark.parametrize("pieces", [[], [b"abc"], [b"x" * 5000, b"", b"y" * 9000]])
@pytest.mark.parametrize("long", [10, 5000])
def test_what_is_kept_comes_back(tmp_path: Path, pieces: list[bytes], long: int) -> None:
    file, head = tmp_path / "new/folder/a", {**HEAD, "long": "é" * long}
    assert keep(file, head, pieces)
    found = kept(file)
    assert found is not None and found.head == head and found.body.tobytes() == b"".join(pieces)
    assert os.listdir(file.parent) == ["a"], "nothing is left aside"


def test_a_larger_body_than_a_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "PIECE", 1000)
    content = np.random.RandomState(0).bytes(9999)
    assert keep(tmp_path / "a", HEAD, [memoryview(content)]) and held(tmp_path / "a") == content


def test_to_write_into_the_body_changes_no_file(tmp_path: Path) -> None:
    keep(tmp_path / "a", HEAD, [b"abc"])
    found = kept(tmp_path / "a")
    assert found is not None
    found.body[0] = 0
    assert held(tmp_path / "a") == b"abc"


def test_every_damage_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keep(tmp_path / "a", HEAD, [b"body" * 10])
    whole = (tmp_path / "a").read_bytes()
    places = [*range(28 + len(cache.json.dumps(HEAD))), *range(len(whole) - 40, len(whole))]  # not the padding
    damaged = [whole[:at] + bytes([whole[at] ^ 64]) + whole[at + 1 :] for at in places]
    damaged += [whole[:length] for length in (0, 1, 27, 28, 100, 4096, len(whole) - 1)] + [whole + b"\0", b"text" * 99]
    for content in damaged:
        caplog.clear()
        (tmp_path / "a").write_bytes(content)
        assert kept(tmp_path / "a") is None
        assert f"{tmp_path / 'a'} is damaged" in caplog.text and "made anew" in caplog.text
    assert keep(tmp_path / "a", HEAD, [b"again"]) and held(tmp_path / "a") == b"again"


def test_what_was_never_kept_is_no_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert kept(tmp_path / "none") is None and not caplog.text


def test_what_cannot_be_read_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a").mkdir()
    assert kept(tmp_path / "a") is None and "a cannot be read (Is a directory)" in caplog.text


def test_where_nothing_can_be_kept_there_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way of a folder")
    assert not keep(tmp_path / "file/a", HEAD, [b"abc"])
    assert f"cannot keep {tmp_path / 'file/a'} (File exists)" in caplog.text


def test_a_full_disk_leaves_the_old_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(tmp_path / "a", HEAD, [b"old"])

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert not keep(tmp_path / "a", HEAD, [b"new"])
    assert "No space left on device" in caplog.text
    assert held(tmp_path / "a") == b"old" and os.listdir(tmp_path) == ["a"]


def test_two_at_once_do_each_other_no_harm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    contents = [bytes([k]) * 50_000 for k in range(8)]

    def work(content: bytes) -> None:
        for _ in range(10):
            assert keep(tmp_path / "a", {"k": content[0]}, [content])
            found = kept(tmp_path / "a")
            assert found is not None and set(found.body.tolist()) == {found.head["k"]}

    failed: list[Any] = []
    hook, threading.excepthook = threading.excepthook, failed.append
    threads = [threading.Thread(target=work, args=(content,)) for content in contents]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    threading.excepthook = hook
    assert not failed and not caplog.text and os.listdir(tmp_path) == ["a"]


def test_what_a_killed_process_left_is_swept_away(tmp_path: Path) -> None:
    old, young = tmp_path / ".a.1", tmp_path / ".a.2"
    for file in (old, young):
        file.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * cache.ABANDONED_S,) * 2)
    keep(tmp_path / "a", HEAD, [])
    assert sorted(os.listdir(tmp_path)) == [".a.2", "a"]


def test_where_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMF_CACHE", "/x")
    assert cache_folder("pixels") == Path("/x/pixels")
    monkeypatch.delenv("DMF_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/y")
    assert cache_folder("pixels") == Path("/y/dmf/pixels")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder("pixels") == Path.home() / ".cache/dmf/pixels"


@pytest.mark.parametrize(
    ("length", "told"), [(17, "17 bytes"), (1536, "1.5 KiB"), (5 * 2**20, "5.0 MiB"), (2**31, "2.0 GiB")]
)
def test_sizes_are_told(length: int, told: str) -> None:
    assert told_size(length) == told
