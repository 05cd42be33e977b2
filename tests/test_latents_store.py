"""Moments on disk: what was written is what is read, damage is found, nothing is made twice or half."""

import fcntl
import json
import logging
import multiprocessing
from pathlib import Path

import pytest
import torch
from latents_kit import Pooled, contents, filled, pictures, store

from dmf.core import InMemory
from dmf.registry import UserError
from dmf.runner.latents import fill
from dmf.runner.latents.fill import CannotKeep
from dmf.runner.latents.store import Store


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
        flip_a_bit(path, {"first": 4096, "middle": 5000, "last": -1}[what])
    elif what == "head":
        flip_a_bit(path, 40)
    elif what == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": whole[:-1], "empty": b"", "other": first.path(1).read_bytes()}[what])
    (again,) = filled(data, [store(data, tmp_path)], codec)
    assert codec.encoded == 5 and path.read_bytes() == whole
    assert torch.equal(moments(again), codec.moments(data.images))
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == (what != "gone") and all(str(path) in line and "made anew" in line for line in told)


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

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dmf.files.cache._write", full)
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
