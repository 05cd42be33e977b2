"""A run in the place of another: who holds a folder, how it is asked to leave, and what of that is taken back."""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from process_kit import lines, start, wait_for

from dmf.registry import UserError
from dmf.runner.commands.run import check_flags
from dmf.runner.folder import InUse, RunFolder
from dmf.runner.launching import LAUNCHER
from dmf.runner.signals import LOOK, LOOKED_EVERY_S, Interrupted, Signals
from dmf.runner.takeover import take_over

Command = Callable[..., tuple[int, str, str]]


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
        signals.asked = held.heed
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
    with pytest.raises(UserError, match=r"still held by pid unknown on elsewhere .*goes on.*--restart-timeout"):
        take_over(RunFolder(held.path), 0.3, lambda line: None)
    assert not held.request.exists() and not held.heed()
    held.release()


def test_who_is_asked_no_longer_goes_on(tmp_path: Path) -> None:
    """One that was held up, or in a long step, would leave for nobody."""
    script = "\n".join(
        [
            "import sys",
            "from pathlib import Path",
            "from dmf.runner.folder import RunFolder",
            "from dmf.runner.signals import Signals",
            "folder = RunFolder(Path(sys.argv[1]))",
            "with Signals() as signals:",
            "    folder.hold()",
            "    signals.asked = folder.heed",
            "    print('held', flush=True)",
            "    for line in sys.stdin:",
            "        print(signals.requested, flush=True)",
        ]
    )
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    holder = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "run")], **pipes)
    try:
        assert holder.stdin and holder.stdout and holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGSTOP)
        with pytest.raises(UserError, match="still held"):
            take_over(RunFolder(tmp_path / "run"), 0.3, lambda line: None)
        holder.send_signal(signal.SIGCONT)
        for _ in range(2):
            time.sleep(LOOKED_EVERY_S)
            holder.stdin.write("\n")
            assert holder.stdout.readline() == "0\n"
    finally:
        holder.kill()
        holder.communicate()


def test_a_folder_that_is_asked_for_while_it_is_removed_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, rmdir = RunFolder(tmp_path / "run"), Path.rmdir
    held.hold()

    def asked_for(path: Path) -> None:
        held.ask()
        rmdir(path)

    monkeypatch.setattr(Path, "rmdir", asked_for)
    held.release()
    assert held.writer() is None and held.request.exists()


def test_a_request_of_a_process_that_was_killed_is_heeded_by_nobody(tmp_path: Path) -> None:
    held = RunFolder(tmp_path / "run")
    held.hold()
    script = "import sys; from pathlib import Path; from dmf.runner.folder import RunFolder; "
    script += "RunFolder(Path(sys.argv[1])).ask()"
    subprocess.run([sys.executable, "-c", script, str(held.path)], check=True)
    asked = held.request.read_text()
    assert not held.heed() and not held.request.exists() and not held.heeded.exists()
    held.request.write_text(asked.replace(socket.gethostname(), "elsewhere"))
    assert held.heed(), "of another machine it is not known"
    RunFolder(held.path).ask()
    assert held.heed()
    held.release()


def test_who_has_heeded_a_request_is_waited_for_while_it_leaves(tmp_path: Path) -> None:
    """The time that it takes to write its checkpoint is its own: given up then, it would leave for nobody."""
    held, said = RunFolder(tmp_path / "run"), list[str]()
    held.hold()
    held.lock.write_text("7 elsewhere\n")
    leaving = threading.Timer(2.5, held.release)

    def heed(line: str) -> None:
        said.append(line)
        threading.Timer(2.5, lambda: held.heed() and leaving.start()).start()

    take_over(RunFolder(held.path), 4, heed)  # 2.5 s until it hears, and as long until it has left
    assert len(said) == 1 and not held.request.exists() and not held.heeded.exists()


def test_who_heeds_a_request_and_does_not_leave_is_told_of(tmp_path: Path) -> None:
    held = RunFolder(tmp_path / "run")
    held.hold()
    held.lock.write_text("7 elsewhere\n")
    threading.Timer(0.2, held.heed).start()
    with pytest.raises(UserError, match=r"pid 7 on elsewhere, which has heard .* once it has left"):
        take_over(RunFolder(held.path), 0.4, lambda line: None)
    held.release()
    assert not held.heeded.exists()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_no_longer_waits_asks_for_nothing(tiny: Path, dmf_command: Command, how: signal.Signals) -> None:
    held = RunFolder(tiny.parent / "runs/tiny")
    held.hold()

    def once_it_waits() -> None:
        until = time.monotonic() + 60
        while not held.request.exists() and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(os.getpid(), how)

    threading.Thread(target=once_it_waits).start()
    held.lock.write_text("0 elsewhere\n")
    assert dmf_command("train", tiny, "--restart")[0] == 128 + how
    assert not held.request.exists() and not held.heed()
    held.release()


def test_a_request_is_looked_for_at_once_in_the_first_step(tmp_path: Path) -> None:
    """It may be compiled for minutes."""
    held = RunFolder(tmp_path / "run")
    held.hold()
    with Signals() as signals:
        signals.asked, signals.at_once = held.heed, True
        signal.raise_signal(LOOK)  # of one that has gone since
        held.request.write_text("1 here\n")
        with pytest.raises(Interrupted) as stop:
            signal.raise_signal(LOOK)
        assert stop.value.exit_code == 143 and held.heeded.exists()
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


def test_a_time_to_wait_needs_somebody_who_waits(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = dmf_command("train", tiny, "--restart-timeout", 60)
    assert code == 2 and "--restart-timeout is how long --restart waits: give --restart too" in err
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv(LAUNCHER, "1")
    check_flags(argparse.Namespace(fresh=False, restart=False, restart_timeout=60))  # ranks that are started again


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
