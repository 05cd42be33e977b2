"""`--fresh`: the old folder is kept aside, and has its name back where nothing new has begun."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dmf.runner import pipeline
from dmf.runner.signals import Interrupted

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def old(tiny: Path, dmf_command: Command) -> Path:
    """A run that is there, marked."""
    assert dmf_command("train", tiny, "train.steps=2")[0] == 0
    run = tiny.parent / "runs/tiny"
    (run / "mark").touch()
    return run


def test_a_run_that_has_begun_leaves_the_old_one_aside(old: Path, tiny: Path, dmf_command: Command) -> None:
    code, out, _ = dmf_command("train", tiny, "train.steps=2", "--fresh")
    assert code == 0 and "the old run is kept as runs/tiny.1" in out
    assert (old.with_name("tiny.1") / "mark").exists() and not (old / "mark").exists()


@pytest.mark.parametrize("words", [["init_from=nowhere"], ["dataset={name: image_folder, path: nowhere}"]])
def test_a_run_that_is_refused_leaves_the_old_one_in_its_place(
    old: Path, tiny: Path, dmf_command: Command, words: list[str]
) -> None:
    code, out, _ = dmf_command("train", tiny, "--fresh", *words)
    assert code == 2 and (old / "mark").exists() and not old.with_name("tiny.1").exists()
    assert "has its name back: runs/tiny" in out or "is kept as" not in out


def test_a_run_that_is_stopped_before_it_begins_leaves_the_old_one_in_its_place(
    old: Path, tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*given: object) -> None:
        raise Interrupted(15)

    monkeypatch.setattr(pipeline, "check_ranks", stop)
    assert dmf_command("train", tiny, "--fresh")[0] == 143
    assert (old / "mark").exists() and not old.with_name("tiny.1").exists()


@pytest.mark.parametrize(
    "source", ["tiny", "tiny@2", "runs/tiny", "runs/tiny@2", "runs/tiny/checkpoints/step-00000002/model.safetensors"]
)
def test_a_run_cannot_begin_anew_from_its_own_weights(old: Path, tiny: Path, dmf_command: Command, source: str) -> None:
    code, out, err = dmf_command("train", tiny, "--fresh", f"init_from={source}")
    assert code == 2 and f"init_from: {source} lies in runs/tiny, which --fresh renames" in err and "kept as" not in out
    assert (old / "mark").exists()
