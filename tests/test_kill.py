"""Killed with -9 at any moment and run again, a training ends with the weights of one that was never killed."""

import random
from pathlib import Path

import pytest
from conftest import FULL
from process_kit import kill_in_training, lines, start
from safetensors.torch import load_file

KILLS = 20 if FULL else 5
STEPS = 3000 if FULL else 900
OVERRIDES = [f"train.steps={STEPS}", "checkpoint.every=7", "log.every=3"]


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
