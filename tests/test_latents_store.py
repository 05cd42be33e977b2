"""Moments on disk: what was written is what is read, damage is found, nothing is made twice or half."""

import errno
import fcntl
import json
import logging
import multiprocessing
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from latents_kit import ON_DISK, Pooled, contents, filled, pictures, source, store

from dmf.core import InMemory
from dmf.registry import UserError
from dmf.registry.recipe_types import Loading
from dmf.runner.latents import fill, shards
from dmf.runner.latents.store import CannotKeep, Store


def moments(stores: Store) -> torch.Tensor:
    assert not stores.missing()
    return torch.cat([shard["moments"] for shard in stores.shards if shard])


def test_what_is_kept_is_what_was_encoded(tmp_path: Path) -> None:
    data, codec = pictures(), Pooled(pictures().spec)
    plain, mirrored = filled(data, [store(data, tmp_path), store(data, tmp_path, mirrored=True)], codec)
    assert codec.encoded == 2 * 23 and len(plain.shards) == 5
    assert torch.equal(moments(plain), codec.moments(data.images))
    assert torch.equal(moments(mirrored), codec.moments(data.images.flip(-1)))
    classes = torch.cat([shard["cond.class"] for shard in plain.shards if shard])
    assert torch.equal(classes, data.cond["class"]) and classes.dtype == torch.int64
    assert plain.folder != mirrored.folder
    assert {shard.name for shard in plain.folder.iterdir()} == {
        *(f"{number:06d}.moments" for number in range(5)),
        "cache.json",
        "locks",
    }


def test_half_precision_rounds_and_nothing_else(tmp_path: Path) -> None:
    data, codec = pictures(), Pooled(pictures().spec)
    (half,) = filled(data, [store(data, tmp_path, dtype="float16")], codec)
    assert torch.equal(moments(half), codec.moments(data.images).half())
    whole = store(data, tmp_path)
    assert whole.contents.image_bytes == 2 * half.contents.image_bytes and whole.folder != half.folder


def test_a_whole_one_is_read_and_not_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data, codec = pictures(), Pooled(pictures().spec)
    (first,) = filled(data, [store(data, tmp_path)])
    (again,) = filled(data, [store(data, tmp_path, per_shard=9)], codec)
    assert codec.encoded == 0 and torch.equal(moments(again), moments(first)), "its shards stay as large as they are"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_what_makes_another_cache() -> None:
    data, others = pictures(), pictures(24)
    changed = InMemory(data.spec, data.images.clone(), data.cond)
    changed.images[7, 0, 0, 0] ^= 1
    keys = {contents(one).key() for one in (data, others, changed)}
    keys |= {contents(data, mirrored=True).key(), contents(data, dtype="float16").key()}
    assert len(keys) == 5 and contents(data).key() == contents(pictures()).key()


def flip_a_bit(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("what", ["first", "middle", "last", "head", "cut", "empty", "other", "gone"])
def test_a_damaged_shard_is_named_and_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str) -> None:
    data, codec = pictures(), Pooled(pictures().spec)
    (first,) = filled(data, [store(data, tmp_path)])
    whole, path = first.path(2).read_bytes(), first.path(2)
    if what in {"first", "middle", "last"}:
        flip_a_bit(
            path, {"first": 4096, "middle": 5000, "last": -64}[what]
        )  # of a condition, of moments, of a checksum
    elif what == "head":
        flip_a_bit(path, 40)
    elif what == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": whole[:-1], "empty": b"", "other": first.path(1).read_bytes()}[what])
    (again,) = filled(data, [store(data, tmp_path)], codec)
    assert codec.encoded == (0 if what in {"first", "middle", "last"} else 5), "images are checked when they are read"
    read = source(data, [again], codec).take(torch.arange(23))[0]
    assert codec.encoded == 5 and path.read_bytes() == whole
    assert torch.equal(read, codec.moments(data.images))
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == (what != "gone") and all(str(path) in line and "made anew" in line for line in told)


@pytest.mark.parametrize("loading", [ON_DISK, Loading()], ids=["mapped", "resident"])
@pytest.mark.parametrize("kept", [True, False])
def test_what_is_damaged_while_it_is_read_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loading: Loading, kept: bool
) -> None:
    """On a disk that takes it, and on one that does not: then it is in memory."""
    data, codec = pictures(), Pooled(pictures().spec)
    (first,) = filled(data, [store(data, tmp_path)])
    mine, other = store(data, tmp_path), store(data, tmp_path)
    flip_a_bit(first.path(1), 5000)
    if not kept:
        monkeypatch.setattr("dmf.files.cache._write", failing(errno.EROFS))
    for _ in range(2):
        read = source(data, [mine], codec, loading).take(torch.arange(23))[0]
        assert torch.equal(read, Pooled(data.spec).moments(data.images)) and codec.encoded == 5
    if kept:
        source(data, [other], codec, loading).take(torch.arange(23))
        assert codec.encoded == 5, "another has made it anew"


def failing(number: int) -> Callable[..., None]:
    def fail(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def few_files(path: Path, count: int) -> None:
    """Fill and read a cache of ``count`` shards, with half as many open files."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (count // 2, count // 2))
    data, codec = pictures(count), Pooled(pictures().spec)
    (mine,) = filled(data, [store(data, path, per_shard=1)], codec)
    again = store(data, path)
    assert codec.encoded == count and not again.missing() and torch.equal(moments(mine), moments(again))


def test_there_may_be_more_shards_than_open_files(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=few_files, args=(tmp_path, 200))
    process.start()
    process.join(60)
    alive = process.is_alive()
    process.kill()
    assert not alive and process.exitcode == 0


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.EMFILE])
def test_what_cannot_be_read_just_now_is_told_and_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    data, codec = pictures(), Pooled(pictures().spec)
    (first,) = filled(data, [store(data, tmp_path)])
    with monkeypatch.context() as patch:
        patch.setattr("dmf.runner.latents.shards.open_kept", failing(number))
        with pytest.raises(
            UserError, match=rf"0000\d\d.moments cannot be read \({os.strerror(number)}, errno {number}\)"
        ):
            store(data, tmp_path)
    (again,) = filled(data, [store(data, tmp_path)], codec)
    assert codec.encoded == 0 and torch.equal(moments(again), moments(first))


@pytest.mark.parametrize("when", ["none", "damaged"])
def test_what_another_has_just_made_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """Between the look at a shard that is missing, or damaged, and what follows, another puts a whole one there."""
    data = pictures()
    mine, others = store(data, tmp_path), store(data, tmp_path / "elsewhere")
    whole = filled(data, [others])[0].path(0)
    if when == "damaged":
        mine.path(0).write_bytes(b"text")
    real = shards.open_shard

    def slow(path: Path, *args: Any) -> object:
        try:
            return real(path, *args)
        finally:
            if path == mine.path(0):
                path.write_bytes(whole.read_bytes())

    monkeypatch.setattr("dmf.runner.latents.store.open_shard", slow)
    mine.take(0)
    assert mine.path(0).read_bytes() == whole.read_bytes()
    mine.look()
    assert mine.missing() == [1, 2, 3, 4]


def test_a_damaged_one_that_cannot_be_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pictures()
    (first,) = filled(data, [store(data, tmp_path)])
    first.path(1).write_bytes(b"text")
    monkeypatch.setattr(Path, "unlink", lambda *args, **kwargs: failing(errno.EACCES)())
    with pytest.raises(CannotKeep, match=r"000001.moments is damaged and cannot be removed \(Permission denied\)"):
        store(data, tmp_path)


def test_to_fill_looks_at_each_shard_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, opened = pictures(200), []
    real = shards.open_shard
    monkeypatch.setattr(
        "dmf.runner.latents.store.open_shard", lambda path, *args: opened.append(path) or real(path, *args)
    )
    (mine,) = filled(data, [store(data, tmp_path, per_shard=1)])
    assert sorted(opened) == [mine.path(shard) for shard in range(200)]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": "other", "images_per_shard": 5}', '{"key": "x"}'])
def test_a_damaged_head_is_written_anew(tmp_path: Path, content: str) -> None:
    data, codec = pictures(), Pooled(pictures().spec)
    (first,) = filled(data, [store(data, tmp_path)])
    (first.folder / "cache.json").write_text(content)
    filled(data, [store(data, tmp_path)], codec)
    assert codec.encoded == 0 and json.loads((first.folder / "cache.json").read_text())["key"] == first.key


def hold(path: Path, byte: int, held: "multiprocessing.Queue[int]", done: "multiprocessing.Queue[int]") -> None:
    with open(path, "ab") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 1, byte)
        held.put(1)
        done.get(timeout=60)


def test_what_another_makes_is_waited_for_and_its_death_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process holds shard 1, and ends without having made it."""
    data, codec = pictures(), Pooled(pictures().spec)
    mine = store(data, tmp_path)
    context = multiprocessing.get_context("fork")
    held, done = context.Queue(), context.Queue()
    other = context.Process(target=hold, args=(mine.folder / "locks", 1, held, done))
    other.start()
    held.get(timeout=60)
    there: list[int] = []

    def sleep(seconds: float) -> None:
        if not there:
            there.append(codec.encoded)
            done.put(1)
        other.join(60)

    monkeypatch.setattr(fill.time, "sleep", sleep)
    filled(data, [mine], codec)
    assert there == [18] and codec.encoded == 23
    assert torch.equal(moments(mine), codec.moments(data.images))


def test_moments_that_are_no_numbers_name_the_image(tmp_path: Path) -> None:
    data, codec = pictures(), Pooled(pictures().spec)
    encode = codec.moments

    def large(images: torch.Tensor) -> torch.Tensor:
        seventh = (images == data.images[7]).flatten(1).all(1).to(torch.float32)
        return encode(images) + 1e6 * seventh[:, None, None, None]

    codec.moments = large  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"image 7 are no float16 numbers; write latents.dtype: float32"):
        filled(data, [store(data, tmp_path, dtype="float16")], codec)


def test_what_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pictures()
    mine = store(data, tmp_path)

    monkeypatch.setattr("dmf.files.cache._write", failing(errno.ENOSPC))
    with pytest.raises(CannotKeep, match=r"000000.moments cannot be written"):
        filled(data, [mine])
    monkeypatch.undo()
    assert not list(mine.folder.glob("*.moments"))
    filled(data, [mine])


def test_one_that_can_only_be_read_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, codec = pictures(), Pooled(pictures().spec)
    filled(data, [store(data, tmp_path)])
    real = open

    def refusing(file: object, mode: str = "r", *args: object, **kwargs: object) -> object:
        if "a" in mode or "w" in mode:
            raise PermissionError(13, "Permission denied", str(file))
        return real(file, mode, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr("builtins.open", refusing)
    (again,) = filled(data, [store(data, tmp_path)], codec)
    assert codec.encoded == 0 and not again.missing()
    with pytest.raises(PermissionError):
        store(pictures(24), tmp_path)
