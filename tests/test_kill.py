"""Killed with -9 at any moment and run again, a training ends with the weights of one that was never killed."""

import contextlib
import random
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from conftest import FULL
from process_kit import start
from safetensors.torch import load_file

KILLS = 20 if FULL else 5
STEPS = 3000 if FULL else 900
OVERRIDES = [f"train.steps={STEPS}", "checkpoint.every=7", "log.every=3"]


def lines(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def kill_in_training(process: "subprocess.Popen[str]", run: Path, moment: random.Random) -> bool:
    """Wait until it trains, then a random moment, then kill the whole group; False if it was done before."""
    before = lines(run / "history.jsonl")
    until = time.monotonic() + 120
    while lines(run / "history.jsonl") <= before and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(moment.uniform(0, 0.2))
    if process.poll() is not None:
        return False
    kill_tree(process.pid)
    process.communicate()
    return True


def kill_tree(pid: int) -> None:
    """-9 for the process, the launcher's ranks and whatever they started."""
    top = psutil.Process(pid)
    for process in [top, *top.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def final(run: Path, name: str) -> dict[str, bytes]:
    tensors = load_file(run / "checkpoints" / f"step-{STEPS:08d}" / f"{name}.safetensors")
    return {key: value.numpy().tobytes() for key, value in tensors.items()}


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_at_random_moments_it_ends_with_the_same_weights(tiny: Path, ranks: int) -> None:
    runs, moment, kills = tiny.parent / "runs", random.Random(ranks), 0
    words = ["train", tiny, *OVERRIDES, *(["--ranks", ranks] if ranks > 1 else [])]
    for _ in range(KILLS):
        kills += kill_in_training(start(*words), runs / "tiny", moment)
    for name in ("tiny", "straight"):
        process = start(*words, f"name={name}")
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, out + err
    assert kills == KILLS, "it finished before it could be killed: take more steps"
    for name in ("model", "ema", "optimizer"):
        assert final(runs / "tiny", name) == final(runs / "straight", name)
    assert lines(runs / "tiny/history.jsonl") == lines(runs / "straight/history.jsonl")
