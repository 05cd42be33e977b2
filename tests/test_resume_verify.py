"""`dmf resume verify`: kills a training for real, and says what is equal."""

import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import FULL
from fork_kit import Ranks

from dmf.registry import read
from dmf.runner import exactness
from dmf.runner.cli import main
from dmf.runner.commands import resume_verify
from dmf.runner.exactness import Finding

Command = Callable[..., tuple[int, str, str]]


class Forked:
    """Stands in for `subprocess.Popen` where the counts are small."""

    def __init__(self, command: list[str], **options: object) -> None:
        place = command.index("--ranks")
        self.ranks = Ranks([*command[3:place], *command[place + 2 :]], int(command[place + 1]))
        self.pid = self.ranks.pids[0]

    def poll(self) -> int | None:
        return None if self.ranks.running() else 0

    def communicate(self) -> tuple[str, str]:
        self.returncode = max(self.ranks.codes(), key=lambda code: abs(code or 0))
        return self.ranks.said(), ""


@pytest.fixture(autouse=True)
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    if not FULL:
        there = SimpleNamespace(Popen=Forked, PIPE=None)
        monkeypatch.setattr("dmf.runner.commands.resume_verify.subprocess", there)


@pytest.mark.slow
def test_a_run_is_shown_to_resume_exactly(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    assert dmf_command("train", tiny, "train.steps=2")[0] == 0
    code, out, err = dmf_command("resume", "verify", "tiny", "--steps", 60, "--ranks", 2)
    assert code == 0, out + err
    assert "killed with -9 after step" in out and "resumed on 2" in out
    at = [line.split(",")[0] for line in out.splitlines() if line.startswith("training ")]
    assert (
        at[0] == "training 60 steps straight through" and at[-1].startswith("training on from step ") and len(at) == 5
    )
    assert out.count("equal, bit for bit (31 tensors)") == 2 and "93 tensors" in out
    assert out.count("equal, in all 60 points") == 3 and " NO " not in out
    assert list((tmp_path / "scratch").glob("dmf-*")) == []
    bad = [Finding("model", False, "1 of 31 tensors differ, such as w")]
    monkeypatch.setattr(exactness, "bit_for_bit", lambda *runs: bad)
    code, out, err = dmf_command("resume", "verify", tiny, "--steps", 40)
    assert code == 1 and "NO  model" in out and "compute.deterministic" in out and "kept in" in out


def test_who_is_stopped_says_what_it_was_at_and_leaves_nothing(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trainings = []

    def started(command: list[str], **options: object) -> "subprocess.Popen[str]":
        process = subprocess.Popen(["sleep", "600"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        trainings.append(process)
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
        return process

    there = SimpleNamespace(Popen=started, PIPE=subprocess.PIPE)
    monkeypatch.setattr("dmf.runner.commands.resume_verify.subprocess", there)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    before = signal.signal(signal.SIGTERM, lambda *given: pytest.fail("nobody hears SIGTERM"))
    try:
        code, out, err = dmf_command("resume", "verify", tiny, "--steps", 40)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert code == 143 and re.search(r"training 40 steps straight through, in \S+/straight\n$", out)
    assert re.search(r"stopped; the trainings in \S+ are removed\n$", err)
    assert not any((tmp_path / "scratch").iterdir())
    assert [process.poll() for process in trainings] == [-signal.SIGKILL]


def test_the_command_line_says_what_may_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["resume"])
    usage, error = capsys.readouterr().err.split("\ndmf resume: error: ")
    assert usage.startswith("usage: dmf resume RUN [key=value ...] [options]\n")
    assert error == "the following arguments are required: RUN\n"


def test_what_cannot_be_verified_is_said(tiny: Path, dmf_command: Command) -> None:
    assert dmf_command("resume", "verify", tiny, "--steps", 1)[0] == 2
    assert dmf_command("resume", "verify")[0] == 2
    code, _, err = dmf_command("resume", "verify", tiny, "--extend", 5, "--restart", "--gpus", 2, "--ranks", 2)
    assert code == 2 and "leave --extend, --restart, --gpus out" in err
    code, _, err = dmf_command("resume", "verify", "nowhere")
    assert code == 2 and "nowhere is no run" in err


def test_tensors_are_compared_by_their_bits() -> None:
    nan, zero = torch.tensor([torch.nan, 1.0]), torch.tensor([0.0])
    same = exactness._equal_tensors("model", {"a": nan, "b": zero}, {"a": nan.clone(), "b": zero.clone()})
    assert same.good
    for other in ({"a": nan}, {"a": nan, "b": -zero}, {"a": nan, "b": zero.double()}, {"a": nan, "b": zero, "c": zero}):
        assert not exactness._equal_tensors("model", {"a": nan, "b": zero}, other).good


@pytest.mark.parametrize(
    ("precision", "tf32", "good"), [("fp32", False, False), ("fp32", True, True), ("bf16", False, True)]
)
def test_short_arithmetic_rounds_by_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, tf32: bool, good: bool
) -> None:
    """As measured in bf16, of which nothing was wrong; what is much further apart is, in any."""
    for more, accepted in ((1.0, good), (30.0, False)):
        weights = {"straight": torch.tensor([1.0]), "moved": torch.tensor([1.0 + more * 5e-3])}
        found = {
            name: SimpleNamespace(tensors={"model": {"w": w}}, facts={"precision": precision})
            for name, w in weights.items()
        }
        monkeypatch.setattr(exactness.checkpoints, "load", lambda path, found=found: found[path.parts[-3]])
        for name, loss in (("straight", 1.0), ("moved", 1 + more * 7e-4)):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "history.jsonl").write_text(
                f'{{"step": 1, "draws": {{}}, "values": {{"loss": {loss}}}}}\n'
            )
        findings = exactness.to_rounding(tmp_path / "straight", tmp_path / "moved", 1, tf32=tf32)
        assert [one.good for one in findings] == [True, accepted, accepted]


def test_weights_are_compared_as_one_vector() -> None:
    a, b = {"w": torch.tensor([3.0]), "b": torch.tensor([1e-9])}, {"w": torch.tensor([3.0]), "b": torch.tensor([4.0])}
    assert exactness.vector_apart(a, b) == pytest.approx(4 / 5)
    assert exactness.vector_apart(b, b) == 0


def test_what_a_training_starts_from_is_found_from_the_scratch_folder(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path stays as it is, also from a home; a name becomes one, also with a step, also beside a folder so named."""
    runs = tiny.parent / "runs"
    monkeypatch.setenv("HOME", str(tiny.parent))
    assert dmf_command("train", tiny, "train.steps=2", "name=base")[0] == 0
    (tiny.parent / "w.safetensors").write_bytes(next(runs.rglob("model.safetensors")).read_bytes())
    Path("base").mkdir()
    changed = {"base": runs / "base", "base@2": runs / "base@2"}
    for source in ("base", "base@2", "runs/base", "runs/base@2", "~/runs/base@2", "~/w.safetensors", "w.safetensors"):
        wanted = [f"init_from.source={changed[source]}"] if source in changed else []
        assert resume_verify._start_of(read(tiny, [f"init_from={source}"]), Path("runs")) == wanted, source
