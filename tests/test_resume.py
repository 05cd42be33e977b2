"""Going on with a run: by its folder, for more steps, with a decay laid out anew."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from training_kit import stop_at

from dmf.runner import pipeline
from dmf.runner.checkpoints import reading
from dmf.runner.signals import IMPATIENT_AFTER_S, Interrupted, Signals
from dmf.runner.training.points import Points

Command = Callable[..., tuple[int, str, str]]
COSINE = ["train.decay=cosine", "log.every=1", "train.ema=[]"]


def rates(run: Path) -> list[float]:
    return [json.loads(line)["values"]["learning_rate"] for line in (run / "history.jsonl").read_text().splitlines()]


def bits(run: Path, step: int) -> dict[str, bytes]:
    tensors = load_file(run / f"checkpoints/step-{step:08d}/model.safetensors")
    return {name: value.numpy().tobytes() for name, value in tensors.items()}


def test_a_run_is_carried_on_by_its_folder_even_a_renamed_one(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tiny.parent / "runs"
    dmf_command("train", tiny, "name=a", "train.steps=4")
    dmf_command("train", tiny, "name=straight")
    (runs / "a").rename(runs / "b")
    tiny.unlink()  # the folder is enough
    code, out, err = dmf_command("resume", "b", "train.steps=12", "sample.per_class=1")
    assert code == 0, err
    assert "going on from step 4" in out and (runs / "b/samples/grid.png").exists()
    assert bits(runs / "b", 12) == bits(runs / "straight", 12)
    assert not (runs / "a").exists()
    code, _, err = dmf_command("resume", runs / "b", "name=c")
    assert code == 2 and "its own folder" in err
    code, _, err = dmf_command("resume", "b", "train.lr=0.5")
    assert code == 2 and "train.lr: 0.001 -> 0.5" in err
    with monkeypatch.context() as patch:
        patch.chdir(runs / "b/samples")
        assert "b is done: 12 steps" in dmf_command("resume", "..", "sample.per_class=1")[1]
    code, _, err = dmf_command("resume", "b", "--steps", 5)
    assert code == 2 and "--extend" in err
    assert dmf_command("resume", "nowhere")[0] == 2


def test_a_finished_run_is_extended_by_so_many_steps(tiny: Path, dmf_command: Command) -> None:
    runs = tiny.parent / "runs"
    assert dmf_command("train", tiny, "--extend", 3)[0] == 2  # there is none
    dmf_command("train", tiny)
    assert "dmf resume runs/tiny --extend 12" in dmf_command("train", tiny)[1]
    assert dmf_command("train", tiny, "--extend", 3)[0] == 0
    assert dmf_command("resume", "tiny", "--extend=2", "sample.per_class=1")[0] == 0
    dmf_command("train", tiny, "name=straight", "train.steps=17")
    assert bits(runs / "tiny", 17) == bits(runs / "straight", 17)
    code, _, err = dmf_command("resume", "tiny", "--extend", 2, "train.steps=30")
    assert code == 2 and "leave one of them out" in err


def test_a_checkpoint_is_hashed_once_before_a_run_goes_on(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten gigabytes take half a minute each time."""
    assert dmf_command("train", tiny, "train.steps=2")[0] == 0
    hashed: list[str] = []
    verify = reading.verify
    monkeypatch.setattr(reading, "verify", lambda path: (hashed.append(path.name), verify(path)))
    assert dmf_command("train", tiny, "train.steps=3")[0] == 0
    assert hashed == ["step-00000002"]


def test_what_changed_nothing_is_said(tiny: Path, dmf_command: Command) -> None:
    dmf_command("train", tiny)
    code, out, _ = dmf_command("train", tiny)
    assert code == 0 and "tiny is done: 12 steps" in out and "changed nothing" not in out and "taken back" not in out
    code, out, _ = dmf_command("train", tiny, "--stretch")
    assert code == 0 and "--stretch changed nothing: it lays out the rates of steps to come" in out
    for flag in (["--stretch"], ["--extend", 3]):
        code, _, err = dmf_command("train", tiny, "--fresh", *flag)
        assert code == 2 and f"{flag[0]} goes on with the run that is there, and --fresh starts anew" in err
    code, out, _ = dmf_command("train", tiny, "train.steps=4")
    assert code == 0 and "train.steps is 4, and it has 12: none is taken back" in out


def test_a_stop_is_heard_between_the_parts_of_the_set_up(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the folder was waited for; a run that never began leaves nothing, one that goes on stays as it is."""
    runs = tiny.parent / "runs"
    for place, last in (("check_ranks", ""), ("set_up", ""), ("check_codec", "memory:"), ("source_of", "memory:")):
        with monkeypatch.context() as patch:
            patch.setattr(pipeline, place, stopped_in(getattr(pipeline, place)))
            if place == "check_codec":
                assert dmf_command("train", tiny, "train.steps=4", "name=old")[0] == 0
            name = "old" if place == "check_codec" else "tiny"
            code, out, _ = dmf_command("train", tiny, f"name={name}")
        assert code == 143 and "stopped by SIGTERM" in out, place
        assert last in out and f"{name}: dit with" not in out and (last or "memory:" not in out), place
    assert not (runs / "tiny").exists() and bits(runs / "old", 4)


def stopped_in(part: Callable[..., Any]) -> Callable[..., Any]:
    def stopped(*given: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return part(*given)

    return stopped


def test_a_run_that_is_not_finished_is_finished_first(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, 6)
    assert dmf_command("train", tiny)[0] == 143
    code, _, err = dmf_command("train", tiny, "--extend", 3)
    assert code == 2 and "has 6 of its 12 steps" in err and "dmf resume runs/tiny" in err
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    code, _, err = dmf_command("train", tiny, "--extend", 3)
    assert code == 2 and "train.steps=N" in err  # a launcher would give the command again


def test_an_extended_run_keeps_its_last_rate_unless_the_decay_is_stretched(tiny: Path, dmf_command: Command) -> None:
    runs = tiny.parent / "runs"
    dmf_command("train", tiny, *COSINE)
    dmf_command("train", tiny, *COSINE, "name=long", "train.steps=20")
    shutil.copytree(runs / "tiny", runs / "copy")
    short, long = rates(runs / "tiny"), rates(runs / "long")
    code, _, err = dmf_command("train", tiny, *COSINE, "train.steps=20")
    assert code == 0 and "learning rate is 0 from here on" in err and "--stretch" in err
    assert rates(runs / "tiny") == [*short, *([0.0] * 8)]
    assert dmf_command("resume", "copy", "--extend", 8, "--stretch", "sample.per_class=1")[0] == 0
    assert rates(runs / "copy") == [*short, *long[12:]]
    assert dmf_command("resume", "copy", "--extend", 2, "sample.per_class=1")[0] == 0  # laid out for 20 from now on
    assert rates(runs / "copy")[20:] == [0.0, 0.0]


def test_a_stretch_survives_a_crash_before_its_first_checkpoint(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tiny.parent / "runs"
    dmf_command("train", tiny, *COSINE)
    dmf_command("train", tiny, *COSINE, "name=long", "train.steps=20")
    with monkeypatch.context() as patch:
        patch.setattr(Points, "write", crash)
        with pytest.raises(RuntimeError, match="crash"):
            dmf_command("train", tiny, *COSINE, "train.steps=20", "--stretch")
    assert dmf_command("train", tiny, *COSINE, "train.steps=20")[0] == 0
    assert rates(runs / "tiny")[12:] == rates(runs / "long")[12:]


def crash(self: Points, bar: object) -> None:
    raise RuntimeError("crash")


def test_a_signal_in_the_first_step_ends_it_at_once() -> None:
    with Signals() as signals:
        signals.at_once = True
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        assert signals.requested == signal.SIGTERM  # should something on the way have caught it


@pytest.mark.parametrize("again", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_heard_once_in_the_clean_up(again: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """A launcher passes one Ctrl-C on twice, a scheduler sends SIGTERM after it; a person's second one counts."""
    clock = [100.0]
    monkeypatch.setattr("dmf.runner.signals.time.monotonic", lambda: clock[0])
    with Signals(heard=False) as signals:
        for patient_s in (0.0, IMPATIENT_AFTER_S + 1):  # in the first step; then a person gives up the wait
            clock[0] += patient_s
            signals.at_once = not patient_s
            with pytest.raises(Interrupted) as stop:
                signal.raise_signal(signal.SIGINT)
            assert stop.value.exit_code == 130
            clock[0] += IMPATIENT_AFTER_S / 2
            signal.raise_signal(again)  # it would end hooks, files and the leave of the other ranks half-way
