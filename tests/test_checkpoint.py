"""A checkpoint is whole or it is not there."""

import json
import shutil
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


def test_what_is_no_checkpoint_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path, 12, 1.0)
    strange = ["step-00000012.copy", "step-14", "step-00000013 (old)", "step-000000099", "step-", "step--0000009"]
    for name in strange:
        shutil.copytree(tmp_path / "step-00000012", tmp_path / name)
    (tmp_path / "step-00000020").write_text("a file")
    assert checkpoints.steps(tmp_path) == [12] and newest(tmp_path).step == 12
    checkpoints.settle(tmp_path)
    write(tmp_path, 15, 1.0, keep=1)
    assert {path.name for path in tmp_path.iterdir()} == {*strange, "step-00000015", "step-00000020"}


def test_steps_of_more_digits_come_after_those_of_fewer(tmp_path: Path) -> None:
    for step in (100_000_000, 99_999_999):
        write(tmp_path, step, 1.0)
    assert checkpoints.steps(tmp_path) == [99_999_999, 100_000_000]
    (tmp_path / "step-100000000/model.safetensors").write_bytes(b"")
    checkpoints.settle(tmp_path)
    assert checkpoints.steps(tmp_path) == [99_999_999]


def test_a_checkpoint_under_the_name_of_another_step_is_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, 1, 1.0)
    write(tmp_path, 2, 2.0).rename(tmp_path / "step-00000009")
    assert newest(tmp_path).step == 1 and "step-00000009 is that of step 2 under another name" in caplog.text


@pytest.mark.parametrize(
    "text", ["[]", "{}", "7", '"text"', '{"model.safetensors": "0"}', '{"state.json": 1}', "[" * 9999]
)
def test_a_manifest_that_lists_nothing_is_damaged(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, 1, 1.0)
    (write(tmp_path, 2, 2.0) / "manifest.json").write_text(text)
    assert newest(tmp_path).step == 1 and "step-00000002 has no readable manifest.json" in caplog.text


def test_what_was_left_aside_is_removed_whatever_it_is(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    write(other, 1, 1.0)
    (home / ".tmp-file").write_text("a file")
    (home / ".tmp-link").symlink_to(other)
    (home / ".tmp-nowhere").symlink_to(tmp_path / "nowhere")
    checkpoints.settle(home)
    assert not list(home.iterdir()) and newest(other).step == 1


def test_a_checkpoint_that_is_a_link_is_removed_as_one(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    (home / "step-00000001").symlink_to(write(other, 1, 1.0))
    write(home, 2, 2.0, keep=1)
    assert [path.name for path in home.iterdir()] == ["step-00000002"] and newest(other).step == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"metric": "fid", "step": "1", "value": 1}', "\0" * 9])
def test_a_damaged_pointer_to_the_best_is_named(tmp_path: Path, text: str) -> None:
    write(tmp_path, 1, 1.0)
    (tmp_path / "best.json").write_text(text)
    with pytest.raises(UserError, match=r"best.json is damaged: .*remove it"):
        checkpoints.settle(tmp_path)
    (tmp_path / "best.json").unlink()
    checkpoints.settle(tmp_path)


def test_those_that_the_recipe_keeps_no_more_go_before_the_next_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2, 3):
        write(tmp_path, step, step)
    with saver(tmp_path, keep=3):
        assert checkpoints.steps(tmp_path) == [1, 2, 3]
    there = []

    def full(folder: Path, *given: object) -> None:
        there.append(checkpoints.steps(tmp_path))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.saver, "seal", full)
    with pytest.raises(CannotWrite), saver(tmp_path, keep=1) as writes:
        writes.save(4, weights(4), {})
    assert there == [[3]] == [checkpoints.steps(tmp_path)] and newest(tmp_path).step == 3
    with pytest.raises(CannotWrite), saver(tmp_path, keep=1) as writes:
        writes.save(4, weights(4), {})
    assert there[1] == [3], "the only one stays until the next is whole"


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 1, 1.0)

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.saver, "seal", full)
    with pytest.raises(CannotWrite, match="No space"):
        write(tmp_path, 2, 2.0)
    assert newest(tmp_path).step == 1
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"], "half of one takes room"


def test_nothing_in_it_is_a_pickle(tmp_path: Path) -> None:
    path = write(tmp_path, 1, 1.0)
    assert {p.suffix for p in path.iterdir()} == {".safetensors", ".json"}
    assert set(json.loads((path / "manifest.json").read_text())) == {
        "model.safetensors",
        "ema.safetensors",
        "state.json",
    }
