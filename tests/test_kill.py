"""Killed with -9 at any moment and run again, a training ends with the weights of one that was never killed."""

import json
import random
import subprocess
import time
from pathlib import Path

import pytest
from conftest import FULL
from fork_kit import Ranks
from process_kit import kill_tree, lines, start
from safetensors.torch import load_file

KILLS = {1: 20, 2: 20, 3: 20} if FULL else {1: 5, 2: 2, 3: 3}
STEPS, LONGEST_S = (3000, 0.2) if FULL else (150, 0.1)

# all that has a state, or a random number, of its own
EVERYTHING = [
    f"train.steps={STEPS}",
    "train.micro_batch=4",
    "train.decay=cosine",
    "train.warmup=20",
    "train.ema=[0.9, {name: half_life, length: 300 images}, {name: power, length: 0.1, snapshots: 100}]",
    "train.stratified=true",
    "backbone.dropout=0.1",
    "augment=[flip]",
    "checkpoint={every: 7, keep: 2, asynchronous: true}",
    "log.every=3",
]


class Training:
    """One start of a training: by its command and launcher with full counts, else forked."""

    def __init__(self, recipe: Path, name: str, ranks: int) -> None:
        words = ["train", recipe, *EVERYTHING, f"name={name}"]
        self.forked = None if FULL else Ranks(words, ranks)
        self.started = start(*words, "--ranks", ranks) if FULL else None

    def running(self) -> bool:
        return self.forked.running() if self.forked else self._command.poll() is None

    def kill(self) -> bool:
        if self.forked:
            return self.forked.kill()
        if not self.running():
            return False
        kill_tree(self._command.pid)
        self._command.communicate()
        return True

    def to_the_end(self) -> None:
        if self.forked:
            assert set(self.forked.codes()) == {0}, self.forked.said()
        else:
            out, err = self._command.communicate(timeout=600)
            assert self._command.returncode == 0, out + err

    @property
    def _command(self) -> "subprocess.Popen[str]":
        assert self.started is not None
        return self.started


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_killed_at_random_moments_it_ends_with_the_same_weights(tiny: Path, ranks: int) -> None:
    runs, moment, kills = tiny.parent / "runs", random.Random(ranks), 0
    history = runs / "tiny/history.jsonl"
    for _ in range(KILLS[ranks]):
        training, before, until = Training(tiny, "tiny", ranks), lines(history), time.monotonic() + 120
        while lines(history) == before and training.running() and time.monotonic() < until:
            time.sleep(0.005)
        assert time.monotonic() < until, "it did not begin to train"
        time.sleep(moment.uniform(0, LONGEST_S))
        kills += training.kill()
    for name in ("tiny", "straight"):
        Training(tiny, name, ranks).to_the_end()
    assert kills == KILLS[ranks], "it finished before it could be killed: take more steps"
    killed, straight = final(runs / "tiny"), final(runs / "straight")
    assert killed.keys() == straight.keys() and len(killed) > 5
    assert [name for name in killed if killed[name] != straight[name]] == []
    assert points(runs / "tiny") == points(runs / "straight")


def final(run: Path) -> dict[str, object]:
    """All of the last checkpoint, and the snapshots of averages."""
    files = sorted((run / "checkpoints" / f"step-{STEPS:08d}").glob("*.safetensors")) + sorted(
        (run / "averages").rglob("*.safetensors")
    )
    found: dict[str, object] = {
        str(file.relative_to(run)): {key: bits(value) for key, value in load_file(file).items()} for file in files
    }
    found["state"] = json.loads((run / "checkpoints" / f"step-{STEPS:08d}" / "state.json").read_text())
    return found


def bits(value: object) -> bytes:
    import torch

    assert isinstance(value, torch.Tensor)
    return value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def points(run: Path) -> list[tuple[object, ...]]:
    found = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    named = ("loss", "learning_rate", "gradient_norm", "images_seen", "bad_steps")
    return [(point["step"], point["draws"], *(point["values"][name] for name in named)) for point in found]
