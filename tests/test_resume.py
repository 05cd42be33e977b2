"""Going on with a run: by its folder, for more steps, with a decay laid out anew, in the place of who is at it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from process_kit import lines, start, wait_for
from safetensors.torch import load_file

from dmf.registry import UserError
from dmf.runner import pipeline
from dmf.runner.checkpoints import reading
from dmf.runner.folder import InUse, RunFolder
from dmf.runner.signals import IMPATIENT_AFTER_S, Interrupted, Signals
from dmf.runner.takeover import take_over
from dmf.runner.training.points import Points

Command = Callable[..., tuple[int, str, str]]
COSINE = ["train.decay=cosine", "log.every=1", "train.ema=[]"]


def rates(run: Path) -> list[float]:
    return [json.loads(line)["values"]["learning_rate"] for line in (run / "history.jsonl").read_text().splitlines()]


def bits(run: Path, step: int) -> dict[str, bytes]:
    tensors = load_file(run / f"checkpoints/step-{step:08d}/model.safetensors")
    return {name: value.numpy().tobytes() for name, value in tensors.items()}


def test_a_run_is_carried_on_by_its_folder_even_a_renamed_one(tiny: Path, dmf_command: Command) -> None:
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


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The run hears SIGTERM when it logs this step."""
    write = Points.write

    def stopping(self: Points, bar: object) -> str | None:
        if self.state.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return write(self, bar)  # type: ignore[arg-type]

    monkeypatch.setattr(Points, "write", stopping)


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


def test_who_holds_a_folder_is_named(tmp_path: Path) -> None:
    one, other = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    assert one.writer() is None
    one.hold()
    assert str(other.writer()) == f"pid {os.getpid()} on {socket.gethostname()}"
    with pytest.raises(InUse, match="--restart"):
        other.hold()
    assert other.writer() is not None  # to be refused changes nothing
    one.release()
    assert other.writer() is None


@pytest.fixture
def bystander() -> Iterator["subprocess.Popen[bytes]"]:
    """A process of this machine that has the number of one on another machine."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def test_a_holder_on_another_machine_is_asked_by_a_file(tmp_path: Path, bystander: "subprocess.Popen[bytes]") -> None:
    held, said = RunFolder(tmp_path / "run"), list[str]()
    held.hold()
    held.lock.write_text(f"{bystander.pid} elsewhere\n")
    waiting = threading.Thread(target=take_over, args=(RunFolder(held.path), 30, said.append))
    waiting.start()
    with Signals() as signals:
        signals.asked = held.request.exists
        end = time.monotonic() + 20
        while not signals.requested and time.monotonic() < end:
            time.sleep(0.01)
        assert signals.requested == signal.SIGTERM
    held.release()
    waiting.join(timeout=20)
    assert not waiting.is_alive() and not held.request.exists()
    assert f"pid {bystander.pid} on elsewhere" in said[0] and bystander.poll() is None


def test_a_holder_that_does_not_answer_is_told_of_and_the_request_withdrawn(tmp_path: Path) -> None:
    held = RunFolder(tmp_path / "run")
    held.hold()
    held.lock.write_text("0 elsewhere\n")
    with pytest.raises(UserError, match=r"still held by pid unknown on elsewhere .*--restart-timeout"):
        take_over(RunFolder(held.path), 0.3, lambda line: None)
    assert not held.request.exists()
    held.release()


def test_who_has_taken_the_folder_meanwhile_is_not_stopped_too(
    tmp_path: Path, bystander: "subprocess.Popen[bytes]"
) -> None:
    held = RunFolder(tmp_path / "run")
    held.hold()
    held.lock.write_text("")  # it has not said its name yet
    said = list[str]()

    def say(line: str) -> None:
        said.append(line)
        held.lock.write_text(f"{7 if len(said) == 1 else bystander.pid} elsewhere\n")

    with pytest.raises(UserError, match=rf"pid 7 on elsewhere has left .*pid {bystander.pid} on elsewhere has taken"):
        take_over(RunFolder(held.path), 30, say)
    assert len(said) == 2 and bystander.poll() is None and not held.request.exists()
    held.release()


def test_to_look_whether_a_folder_is_held_disturbs_nobody(tmp_path: Path) -> None:
    """Each one looks and lets go; a run that starts meanwhile is not refused, and nobody takes another for a writer."""
    path, over, found = tmp_path / "run", threading.Event(), set[object]()
    first = RunFolder(path)
    first.hold()
    (path / "recipe.yaml").touch()  # or the folder goes with its last holder
    first.release()

    def looking() -> None:
        while not over.is_set():
            found.add(RunFolder(path).writer())

    looks = [threading.Thread(target=looking) for _ in range(2)]
    for look in looks:
        look.start()
    time.sleep(0.3)
    assert found == {None}
    for _ in range(100):
        one = RunFolder(path)
        one.hold()
        one.release()
    over.set()
    for look in looks:
        look.join()


def test_an_old_request_stops_nobody(tiny: Path, dmf_command: Command) -> None:
    folder = RunFolder(tiny.parent / "runs/tiny")
    folder.path.mkdir(parents=True)
    folder.request.write_text("1 elsewhere\n")
    assert dmf_command("train", tiny, "--restart")[0] == 0


def test_where_nobody_is_to_be_stopped_restart_changes_nothing(tiny: Path, dmf_command: Command) -> None:
    """A run that has no checkpoint yet is begun anew under any recipe."""
    folder = RunFolder(tiny.parent / "runs/tiny")
    folder.path.mkdir(parents=True)
    folder.recipe.write_text(tiny.read_text().replace("lr: 1e-3", "lr: 0.5"))
    assert dmf_command("train", tiny, "--restart")[0] == 0
    code, _, err = dmf_command("train", tiny, "--restart", "train.lr=0.5")
    assert code == 2 and "train.lr: 0.001 -> 0.5" in err


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


@pytest.mark.slow
def test_a_run_takes_the_place_of_the_one_that_is_there(tiny: Path, dmf_command: Command) -> None:
    runs, words = tiny.parent / "runs", ["train", tiny, "checkpoint.every=100000", "train.steps=100000"]
    there = start(*words)
    wait_for(lambda: lines(runs / "tiny/history.jsonl") > 3, there)
    code, _, err = dmf_command("train", tiny, "train.lr=1", "--restart")
    assert code == 2 and "train.lr" in err and there.poll() is None  # it is not stopped in vain
    code, _, err = dmf_command(*words)
    assert code == 2 and f"pid {there.pid}" in err and "--restart" in err
    done = json.loads((runs / "tiny/history.jsonl").read_text().splitlines()[-1])["step"]
    code, _, err = dmf_command("train", tiny, "train.steps=1", "--restart", "--restart-timeout", 60)
    assert code == 0, err
    _, err = there.communicate(timeout=60)
    assert there.returncode == 143, err
    (saved,) = (runs / "tiny/checkpoints").iterdir()
    assert int(saved.name.removeprefix("step-")) >= done
