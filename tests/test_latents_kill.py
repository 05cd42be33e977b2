"""Killed with -9 while latents are encoded or trained on: the same cache and weights as without; two at once; ranks."""

import json
import random
import subprocess
import time
from pathlib import Path

import pytest
from conftest import FULL
from data_kit import paint
from latents_kit import make_autoencoder
from process_kit import kill_in_training, kill_tree, start
from safetensors.torch import load_file

KILLS = 20 if FULL else 5
IMAGES, STEPS = (400, 400) if FULL else (120, 150)
RECIPE = """\
name: kept
device: cpu
dataset: {name: image_folder, root: pets, size: 16, labels: none, memory_gib: 0}
codec: {name: autoencoder_kl, path: vae, slice: 1}
latents: {cache: true, shard_mib: 0.003}
loading: {workers: 0}
augment: [flip]
backbone: {name: dit, hidden: 16, depth: 1, heads: 2, patch: 4}
schedule: flow
prediction: flow
train: {steps: %d, batch_size: 8, lr: 1e-3}
sampler: {name: euler, steps: 1}
log: {every: 3}
checkpoint: {every: 7}
hooks: []
"""


@pytest.fixture
def home(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DMF_CACHE", str(workdir / "cache"))
    for number in range(IMAGES):
        paint(workdir / f"pets/{number}.png", seed=number)
    make_autoencoder(workdir / "vae")
    (workdir / "kept.yaml").write_text(RECIPE % STEPS)
    return workdir


def shards(cache: Path) -> dict[str, bytes]:
    return {str(path.relative_to(cache)): path.read_bytes() for path in cache.rglob("*.moments")}


def finish(process: "subprocess.Popen[str]") -> str:
    out, err = process.communicate(timeout=170)
    assert process.returncode == 0, out + err
    return out


def final(run: Path) -> dict[str, bytes]:
    tensors = load_file(run / "checkpoints" / f"step-{STEPS:08d}" / "ema.safetensors")
    return {key: value.numpy().tobytes() for key, value in tensors.items()}


def kill_in_encoding(process: "subprocess.Popen[str]", cache: Path, moment: random.Random) -> None:
    """Wait until it adds to the cache, then a random moment, then kill it."""
    before, until = len(list(cache.rglob("*.moments"))), time.monotonic() + 120
    while len(list(cache.rglob("*.moments"))) <= before and time.monotonic() < until:
        assert process.poll() is None, "it finished before it could be killed"
        time.sleep(0.002)
    time.sleep(moment.uniform(0, 0.1))
    assert process.poll() is None, "it finished before it could be killed"
    kill_tree(process.pid)
    process.communicate()


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_cache_and_weights(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment, words = random.Random(0), ["train", home / "kept.yaml"]
    for _ in range(KILLS):
        kill_in_encoding(start(*words), home / "cache", moment)
    assert not (home / "runs/kept/history.jsonl").exists() or not (home / "runs/kept/history.jsonl").read_text()
    killed = sum(kill_in_training(start(*words), home / "runs/kept", moment) for _ in range(2))
    out = finish(start(*words))
    assert killed == 2 and "latents: encoding" not in out
    monkeypatch.setenv("DMF_CACHE", str(home / "straight"))
    finish(start(*words, "name=straight"))
    assert shards(home / "cache") == shards(home / "straight") and len(shards(home / "cache")) > 2 * IMAGES / 3
    assert final(home / "runs/kept") == final(home / "runs/straight")


@pytest.mark.slow
def test_two_runs_and_two_ranks_share_the_work(home: Path) -> None:
    both = [start("train", home / "kept.yaml", f"name={name}") for name in ("a", "b")]
    texts = [finish(process) for process in both]
    assert all("latents: encoding" in text for text in texts)
    assert final(home / "runs/a") == final(home / "runs/b")
    made = shards(home / "cache")
    for path in list((home / "cache").rglob("*.moments"))[::2]:
        path.unlink()
    text = finish(start("train", home / "kept.yaml", "name=ranks", "train.steps=12", "--ranks", 2))
    assert "are there" in text and shards(home / "cache") == made
    losses = [
        [json.loads(line)["values"]["loss"] for line in (home / f"runs/{name}/history.jsonl").read_text().splitlines()]
        for name in ("a", "ranks")
    ]
    assert losses[1] == pytest.approx(losses[0][: len(losses[1])], rel=1e-5) and len(losses[1]) == 4


@pytest.mark.slow
def test_asked_to_stop_it_keeps_what_it_has(home: Path) -> None:
    process = start("run", home / "kept.yaml", "train.steps=12", "sample={per_class: 1}")
    while not list((home / "cache").rglob("*.moments")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143 and "nothing is lost" in out and "Traceback" not in out + err
    there = len(shards(home / "cache"))
    for expected in ("latents: encoding", "done"):
        out = finish(start("run", home / "kept.yaml", "train.steps=12", "sample={per_class: 1}"))
        assert expected in out
    assert 0 < there < len(shards(home / "cache"))
    assert (home / "runs/kept/samples/grid.png").exists()


@pytest.mark.slow
def test_trouble_of_one_rank_is_told_once(home: Path) -> None:
    bad = home / "pets/100.png"
    bad.write_bytes(bad.read_bytes()[:-200])
    process = start("train", home / "kept.yaml", "--ranks", 2)
    out, err = process.communicate(timeout=170)
    assert process.returncode == 2 and "Traceback" not in out + err
    assert err.count("100.png") == 1 and "100.png" not in out
