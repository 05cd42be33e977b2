"""Two ranks train as one: the same images, noise and times, weights equal to rounding; only rank 0 writes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from docs_kit import ROOT
from process_kit import start
from safetensors.torch import load_file

STEPS = 12


def dmf(*words: object, launcher: tuple[str, ...] = ()) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *launcher, "dmf", *map(str, words)]
    done = subprocess.run(command, text=True, env=environment, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def one(tiny: Path) -> Path:
    """The run of one rank, beside which the others are held; its learning rate rises and falls."""
    text = tiny.read_text()
    tiny.write_text(text.replace("train: {", "train: {warmup: 3, decay: {name: step, every: 4, factor: 0.5}, "))
    dmf("train", tiny, "name=one")
    return tiny.parent / "runs/one"


def logged(run: Path, name: str) -> list[float]:
    return [json.loads(line)["values"][name] for line in (run / "history.jsonl").read_text().splitlines()]


def assert_alike(run: Path, one: Path) -> None:
    assert logged(run, "loss") == pytest.approx(logged(one, "loss"), rel=1e-5)
    assert logged(run, "learning_rate") == logged(one, "learning_rate")
    assert len(set(logged(one, "learning_rate"))) > 3  # or nothing has been seen
    a, b = (load_file(r / f"checkpoints/step-{STEPS:08d}/ema.safetensors") for r in (run, one))
    difference = sum(float((a[k] - b[k]).square().sum()) for k in a) ** 0.5
    assert difference < 1e-4 * sum(float(b[k].square().sum()) for k in b) ** 0.5


def test_two_ranks_are_one(tiny: Path, one: Path) -> None:
    out = dmf(
        "run", tiny, "name=two", "--ranks", 2, "evaluate={images: 90, metrics: [{name: frechet, features: digits}]}"
    )
    run = tiny.parent / "runs/two"
    assert_alike(run, one)
    assert out.count("going on") == 0 and out.count("folder runs/two") == 1  # one rank speaks
    assert " of digits, 2 x cpu (ddp); folder runs/two\n" in out
    assert json.loads((run / "facts.json").read_text())["machine.ranks"] == "2"
    assert (run / "samples/grid.png").exists()
    scored = json.loads((run / "metrics.json").read_text())["frechet_digits"]["value"]
    dmf("evaluate", run, "--json", tiny.parent / "alone.json")
    alone = json.loads((tiny.parent / "alone.json").read_text())["frechet_digits"]["value"]
    assert alone == pytest.approx(scored, rel=1e-12)  # the batches are the same, so the samples and features are


def test_torchrun_joins(tiny: Path, one: Path) -> None:
    """By the line of the page as it stands, but for the recipe and the name."""
    page = (ROOT / "docs/distributed.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^torchrun (.*) -m dmf run digits_dit name=by-torchrun device=cpu$", page, re.MULTILINE)
    launcher = ("torch.distributed.run", *line.split(), "-m")
    dmf("train", tiny, "name=by-torchrun", launcher=launcher)
    assert_alike(tiny.parent / "runs/by-torchrun", one)


def test_another_number_of_ranks_goes_on(tiny: Path, one: Path) -> None:
    dmf("train", tiny, "name=mixed", "train.steps=6", "--ranks", 2)
    dmf("train", tiny, "name=mixed", f"train.steps={STEPS}")
    assert_alike(tiny.parent / "runs/mixed", one)


def test_trouble_on_rank_0_alone_is_one_message(tiny: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "dmf",
        "train",
        str(tiny),
        "--ranks",
        "2",
        "--restarts",
        "5",
        "hooks=[{name: mlflow, uri: 'bogus://x'}]",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "restart" not in done.stderr, "a mistake is not tried again"
    assert done.stderr.count("error:") == 1 and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("phase", ["train", "sample"])
def test_ctrl_c_stops_all_ranks_in_peace(tiny: Path, phase: str) -> None:
    words = {
        "train": ["train", tiny, "train.steps=100000", "checkpoint.every=100000"],
        "sample": ["run", tiny, "train.steps=2", "log.every=1", "sampler.steps=100000"],
    }[phase]
    process = start(*words, "--ranks", 2)
    history = tiny.parent / "runs/tiny/history.jsonl"
    until = time.monotonic() + 120
    while process.poll() is None and not (history.exists() and history.read_text().count("\n") > 1):
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(2.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert "Traceback" not in err and "death signal" not in err, err
    assert "stopped by Ctrl-C" in out
    assert len(list((tiny.parent / "runs/tiny/checkpoints").glob("step-*"))) == 1
