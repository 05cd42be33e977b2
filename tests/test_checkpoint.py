"""A checkpoint is whole or it is not there."""

import json
from pathlib import Path

import pytest
import torch
from checkpoints_kit import Groups, saver, weights

from dmf.registry import UserError
from dmf.runner import checkpoints
from dmf.runner.trouble import CannotWrite


def save(folder: Path, step: int, groups: Groups, keep: int = 3) -> Path:
    saver(folder, keep=keep).save(step, groups, {"images_seen": step * 2})
    return checkpoints.place(folder, step)


def write(folder: Path, step: int, value: float, keep: int = 3) -> Path:
    return save(folder, step, weights(value), keep)


def newest(folder: Path) -> checkpoints.Checkpoint:
    found = checkpoints.newest(folder)
    assert found is not None
    return found


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    write(tmp_path, 5, 1.5)
    found = newest(tmp_path)
    assert found.step == 5
    assert found.facts["images_seen"] == 10
    assert torch.equal(found.tensors["model"]["w"], torch.full((4, 4), 1.5))
    assert torch.equal(found.tensors["ema"]["w"], torch.full((4, 4), 0.75))


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10, 9):
        write(tmp_path, step, float(step), keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000009", "step-00000010"]


@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_file_is_named_and_the_one_before_used(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, 1, 1.0)
    file = write(tmp_path, 2, 2.0) / name
    content = bytearray(file.read_bytes())
    if damage == "remove":
        file.unlink()
    else:
        content[-3] ^= 4
        file.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    assert newest(tmp_path).step == 1
    assert name in caplog.text and "step-00000002" in caplog.text


def test_a_step_is_written_again_over_a_damaged_one(tmp_path: Path) -> None:
    (write(tmp_path, 2, 2.0) / "model.safetensors").write_bytes(b"")
    write(tmp_path, 2, 3.0)
    assert float(newest(tmp_path).tensors["model"]["w"][0, 0]) == 3.0


def test_damaged_ones_are_set_aside_and_push_no_whole_one_out(tmp_path: Path) -> None:
    write(tmp_path, 2, 2.0)
    (write(tmp_path, 4, 4.0) / "model.safetensors").write_bytes(b"")
    checkpoints.settle(tmp_path)
    write(tmp_path, 3, 3.0, keep=1)
    assert newest(tmp_path).step == 3
    assert [p.name[:21] for p in sorted(tmp_path.iterdir())] == ["damaged-step-00000004", "step-00000003"]


def test_when_none_is_whole_nothing_starts_over(tmp_path: Path) -> None:
    (write(tmp_path, 4, 4.0) / "model.safetensors").write_bytes(b"")
    for _ in range(2):
        with pytest.raises(UserError, match=r"none of the checkpoints .* --fresh"):
            checkpoints.settle(tmp_path)


def test_tied_weights_come_back_under_both_names(tmp_path: Path) -> None:
    one = torch.randn(3, 2)
    save(tmp_path, 1, {"model": {"a": one, "b": one, "c": one.clone()}})
    found = newest(tmp_path).tensors["model"]
    assert all(torch.equal(found[name], one) for name in "abc")
    assert (tmp_path / "step-00000001/model.safetensors").stat().st_size < 300


def test_half_written_ones_are_swept_away(tmp_path: Path) -> None:
    (tmp_path / ".tmp-00000007-123").mkdir()
    (tmp_path / ".tmp-00000007-123" / "model.safetensors").write_bytes(b"half")
    assert checkpoints.newest(tmp_path) is None
    checkpoints.settle(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 1, 1.0)

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.saver, "seal", full)
    with pytest.raises(CannotWrite, match="No space"):
        write(tmp_path, 2, 2.0)
    assert newest(tmp_path).step == 1


def test_nothing_in_it_is_a_pickle(tmp_path: Path) -> None:
    path = write(tmp_path, 1, 1.0)
    assert {p.suffix for p in path.iterdir()} == {".safetensors", ".json"}
    assert set(json.loads((path / "manifest.json").read_text())) == {
        "model.safetensors",
        "ema.safetensors",
        "state.json",
    }
