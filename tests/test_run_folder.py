"""Odd files in a run's folder, and a disk without room: one sentence that says what to do, and nothing lost."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dmf.files import writing
from dmf.files.writing import read_json, write_json
from dmf.registry import UserError
from dmf.runner import session
from dmf.runner.checkpoints import steps
from dmf.runner.folder import RunFolder

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that run, in a working folder with a copy of that recipe."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return Path("runs/tiny")


def content(folder: Path) -> dict[Path, bytes]:
    """All that is in it but the log and the lock."""
    there = [path for path in folder.rglob("*") if path.is_file() and path.name not in ("log.txt", ".lock")]
    return {path: path.read_bytes() for path in there}


@pytest.mark.parametrize("text", ["", "{", "\0" * 9, "[]", "7", "\udcff", "[" * 99_999])
@pytest.mark.parametrize("name", ["facts.json", "done.json"])
def test_a_damaged_file_is_named_with_a_remedy(run: Path, dmf_command: Command, name: str, text: str) -> None:
    (run / name).write_text(text, encoding="utf-8", errors="surrogateescape")
    before = content(run)
    code, _, err = dmf_command("run", "tiny.yaml", "train.steps=14")
    assert code == 2 and f"{run / name} is damaged: " in err and "remove it, to go on" in err and err.count("\n") == 1
    assert content(run) == before
    (run / name).unlink()
    assert dmf_command("run", "tiny.yaml", "train.steps=14")[0] == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{}", "it lacks step, or has None for it"),
        ('{"step": "7"}', "it lacks step, or has '7' for it"),
        ("[7]", "list in place of an object"),
        ("{7}", r"it is no JSON \(Expecting property name"),
    ],
)
def test_what_a_file_must_hold(tmp_path: Path, text: str, why: str) -> None:
    assert read_json(tmp_path / "a.json", step=int) is None
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=f"a.json is damaged: {why}"):
        read_json(tmp_path / "a.json", step=int)
    write_json(tmp_path / "a.json", {"step": 7, "more": None})
    assert read_json(tmp_path / "a.json", step=int) == {"step": 7, "more": None}
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_json(tmp_path)


@pytest.mark.parametrize("words", [(), ("train.lr=7", "train.steps=14")])
def test_checkpoints_without_their_recipe_are_not_gone_on_with(
    run: Path, dmf_command: Command, words: tuple[str, ...]
) -> None:
    """Under any other recipe they would be, and nobody would know."""
    recipe = (run / "recipe.yaml").read_bytes()
    (run / "recipe.yaml").unlink()
    before = content(run)
    code, _, err = dmf_command("train", "tiny.yaml", *words)
    assert code == 2 and "has checkpoints, the newest of step 12, and no recipe.yaml" in err and "--fresh" in err
    assert content(run) == before
    (run / "recipe.yaml").write_bytes(recipe)
    assert dmf_command("train", "tiny.yaml", "train.steps=14")[0] == 0


@pytest.mark.parametrize("text", ["", "{}", '{"shape": 8, "classes": [], "cond": {}}', None])
def test_what_is_known_of_the_data_may_be_damaged_or_lost(run: Path, dmf_command: Command, text: str | None) -> None:
    (run / "spec.json").unlink()
    if text is not None:
        (run / "spec.json").write_text(text)
    code, _, err = dmf_command("sample", run)
    lost = "is not there: bring it back from a copy" if text is None else "is damaged: it "
    assert code == 2 and f"{run / 'spec.json'} {lost}" in err and "never trained" not in err


def test_a_copy_of_a_checkpoint_beside_it_is_no_trouble(run: Path, dmf_command: Command) -> None:
    copy = run / "checkpoints/step-00000012.copy"
    shutil.copytree(run / "checkpoints/step-00000012", copy)
    assert dmf_command("train", "tiny.yaml", "train.steps=14")[0] == 0
    assert dmf_command("export", run, "--out", "w.safetensors")[0] == 0
    assert copy.is_dir()


def test_an_evaluation_that_says_nothing_is_left_out(run: Path, dmf_command: Command) -> None:
    (run / "evaluations.jsonl").write_text('{"step": 5}\n')
    code, _, err = dmf_command("train", "tiny.yaml", "train.steps=14")
    assert code == 0 and "evaluations.jsonl: 1 damaged line(s) left out" in err


def test_a_lock_with_anything_in_it_is_taken(run: Path, dmf_command: Command) -> None:
    (run / ".lock").write_bytes(b"\xff\xfe 7")
    assert dmf_command("train", "tiny.yaml", "train.steps=14", "--restart")[0] == 0


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A disk on which nothing has room that goes through `os`."""

    def no_room(*given: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(writing.os, "fsync", no_room)
        patched.setattr(os, "write", no_room)
        yield patched


def test_a_folder_that_finds_no_room_is_not_made(full: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs/new")
    with pytest.raises(UserError, match="cannot be made or written: No space left on device; make room there, or"):
        folder.hold()
    assert not folder.path.exists()
    full.undo()
    folder.hold()
    assert folder.samples.is_dir() and folder.checkpoints.is_dir()
    folder.release()
    assert not folder.path.exists()


def test_a_run_whose_folder_finds_no_room_is_left_as_it_is(full: pytest.MonkeyPatch, run: Path) -> None:
    before = content(run)
    with pytest.raises(UserError, match="No space left on device"):
        RunFolder(run).hold()
    assert content(run) == before and RunFolder(run).writer() is None


@pytest.mark.parametrize("name", ["recipe.yaml", "facts.json", "done.json"])
def test_any_other_file_that_finds_no_room_ends_the_run_in_a_sentence(
    run: Path, dmf_command: Command, full: pytest.MonkeyPatch, name: str
) -> None:
    full.undo()

    def write(path: Path, *given: Any) -> None:
        if path.name == name:
            full.setattr(writing.os, "fsync", no_room)
        take = write_json_ if path.suffix == ".json" else write_text_
        take(path, *given)

    def no_room(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_json_, write_text_ = session.write_json, session.write_text
    full.setattr(session, "write_json", write)
    full.setattr(session, "write_text", write)
    code, _, err = dmf_command("run", "tiny.yaml", "train.steps=14")
    assert code == 1 and "Traceback" not in err
    assert f"error: {run / name} could not be written: No space left on device. Make room" in err
    full.undo()
    assert dmf_command("run", "tiny.yaml", "train.steps=14")[0] == 0
    assert steps(run / "checkpoints")[-1] == 14
