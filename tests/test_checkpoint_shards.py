"""Checkpoints of which each rank writes its part: whole or not there, and read on any number of ranks."""

import errno
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from checkpoints_kit import saver
from conftest import FULL
from fork_kit import Working, on_ranks
from rank_of_checkpoints import (
    cannot_save_in_any_way,
    parts,
    same,
    saves_both,
    saves_in_a_folder_of_its_own,
    saves_until_killed,
    saves_with_a_slow_rank,
    whole,
)
from safetensors.torch import load_file, save
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from dmf.registry import UserError
from dmf.runner import checkpoints
from dmf.runner.checkpoints import shards
from dmf.runner.checkpoints.layout import DamagedCheckpoint

KILLS = 10 if FULL else 1


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of checkpoints: of one rank, of two that wait for the disk, of two that do not."""
    folder = tmp_path_factory.mktemp("checkpoints")
    (folder / "one").mkdir()
    saver(folder / "one").save(4, whole(4), {})
    on_ranks(2, saves_both, folder)
    return folder


@pytest.mark.parametrize("way", ["waited", "aside"])
def test_one_process_reads_what_two_wrote(written: Path, way: str) -> None:
    path = checkpoints.place(written / way, 2)
    assert {file.suffix for file in path.rglob("*") if file.is_file()} == {".safetensors", ".json"}
    assert len(list((path / "model").iterdir())) == 2 and (path / "objective.safetensors").is_file()
    found = checkpoints.load(path).tensors
    assert found.keys() == whole(2).keys()
    for group, tensors in whole(2).items():
        assert found[group].keys() == tensors.keys()
        assert all(same(found[group][name], value) for name, value in tensors.items())


def test_weights_are_known_by_the_same_name_in_any_form(written: Path) -> None:
    one = checkpoints.place(written / "one", 4)
    assert checkpoints.identity(one, "model") == json.loads((one / "manifest.json").read_text())["model.safetensors"]
    tensors = {name: value for name, value in whole(2)["model"].items() if "tied" not in name}
    expected = hashlib.sha256(save(tensors)).hexdigest()
    assert checkpoints.identity(checkpoints.place(written / "aside", 2), "model") == expected
    assert checkpoints.identity(checkpoints.place(written / "waited", 1), "model") != expected


def test_no_rank_looks_for_files_that_another_has_renamed(tmp_path: Path) -> None:
    on_ranks(2, saves_with_a_slow_rank, tmp_path)
    assert checkpoints.steps(tmp_path) == [1]


def test_a_folder_that_is_not_shared_is_told_of_by_every_rank(tmp_path: Path) -> None:
    on_ranks(2, saves_in_a_folder_of_its_own, tmp_path)


def test_what_one_rank_cannot_write_is_every_ranks_error(tmp_path: Path) -> None:
    on_ranks(2, cannot_save_in_any_way, tmp_path)


@pytest.fixture
def as_rank() -> Iterator[None]:
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.mark.parametrize(("rank", "ranks"), [(0, 1), (2, 3), (4, 5)])
@pytest.mark.parametrize("form", ["aside", "one"])
def test_another_number_of_ranks_reads_its_parts(
    written: Path, as_rank: None, rank: int, ranks: int, form: str
) -> None:
    step = 4 if form == "one" else 2
    dist.init_process_group("fake", rank=rank, world_size=ranks, store=FakeStore())
    for group, targets in parts(0).items():
        checkpoints.restore_into(checkpoints.place(written / form, step), group, targets)
        for name, value in targets.items():
            expected = whole(step)[group][name]
            if isinstance(value, DTensor):
                pieces = expected.chunk(ranks)
                expected = pieces[rank] if rank < len(pieces) else expected[:0]
                value = value.to_local()
            assert torch.equal(value, expected), (group, name)


def test_other_tensors_are_refused_by_name(written: Path) -> None:
    path = checkpoints.place(written / "aside", 2)
    with pytest.raises(UserError, match=r"b: \(1,\) -> \(2,\)\n  c: missing there -> \(3,\)"):
        checkpoints.restore_into(path, "model", {**whole(2)["model"], "b": torch.ones(2), "c": torch.ones(3)})


@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_a_damaged_part_is_named_and_the_one_before_used(
    written: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2):
        source = checkpoints.place(written / "waited", step)
        for file in (file for file in source.rglob("*") if file.is_file()):
            copy = tmp_path / source.name / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    shard = sorted((tmp_path / "step-00000002/model").iterdir())[1]
    content = bytearray(shard.read_bytes())
    content[-3] ^= 4
    shard.unlink() if damage == "remove" else shard.write_bytes(content)
    found = checkpoints.newest(tmp_path)
    assert found is not None and found.step == 1
    assert f"model/{shard.name}" in caplog.text and "step-00000002" in caplog.text


def test_a_disk_that_fails_while_a_part_is_read_is_no_traceback(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(shards.HuggingFaceStorageReader, "read_data", fails)
    with pytest.raises(DamagedCheckpoint, match=r"cannot be read: .*Input/output error"):
        checkpoints.load(checkpoints.place(written / "waited", 2))


@pytest.mark.slow
def test_two_ranks_killed_while_they_write_leave_whole_checkpoints(tmp_path: Path) -> None:
    last = 0
    for kill in range(KILLS):
        ranks = Working(2, saves_until_killed, tmp_path)
        until = time.monotonic() + 120
        while max(checkpoints.steps(tmp_path), default=0) < 3 + kill and time.monotonic() < until:
            time.sleep(0.003 * (kill + 1))
        assert ranks.kill(), ranks.said()
        checkpoints.settle(tmp_path)
        found = checkpoints.newest(tmp_path)
        assert found is not None and found.step >= 3
        for group, tensors in found.tensors.items():
            assert all(same(value, whole(found.step)[group][name]) for name, value in tensors.items())
        assert not list(tmp_path.glob("damaged-*")) and not list(tmp_path.glob(".tmp*"))
        last = max(last, found.step)
    assert load_file(checkpoints.place(tmp_path, found.step) / "objective.safetensors").keys() == {"c"}
