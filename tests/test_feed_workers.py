"""`dmf train` on pictures that workers read: killed, stopped, resumed, its files taken away."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import FULL
from data_kit import paint
from process_kit import start
from safetensors.torch import load_file

from dmf.runner.feed import image_numbers

KILLS = 8 if FULL else 2
STEPS = 30 * KILLS


@pytest.fixture
def pets(tiny: Path) -> Path:
    """A recipe of training on a folder of pictures, read by two workers."""
    for i in range(40):
        paint(tiny.parent / "pets" / ("cat" if i % 2 else "dog") / f"{i}.png", 12, 12, seed=i)
    text = tiny.read_text().replace(
        "dataset: digits", "dataset: {name: image_folder, root: pets, size: 8, memory_gib: 0}\nloading: {workers: 2}"
    )
    tiny.write_text(text.replace("steps: 12", f"steps: {STEPS}"))
    return tiny


def lines(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def trained_a_while(process: "subprocess.Popen[str]", run: Path, more: int = 2) -> None:
    """Wait until it has logged ``more`` points."""
    before, until = lines(run / "history.jsonl"), time.monotonic() + 60
    while lines(run / "history.jsonl") < before + more:
        assert time.monotonic() < until and process.poll() is None, process.communicate()
        time.sleep(0.01)


def below(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def ended(processes: list[psutil.Process], within_s: float) -> bool:
    _, alive = psutil.wait_procs(processes, within_s)
    return not alive


def final(run: Path, name: str = "model") -> dict[str, bytes]:
    found = load_file(run / "checkpoints" / f"step-{STEPS:08d}" / f"{name}.safetensors")
    return {key: value.numpy().tobytes() for key, value in found.items()}


@pytest.mark.slow
def test_killed_and_gone_on_with_other_workers_it_ends_with_the_same_weights(pets: Path) -> None:
    runs = pets.parent / "runs"
    for number in range(KILLS):
        process = start("train", pets, f"loading.workers={1 + number % 2}", "train.steps=100000")
        trained_a_while(process, runs / "tiny", 4)
        workers = below(process.pid)
        process.kill()
        process.communicate()
        assert len(workers) >= 2 and ended(workers, 20), "orphans"  # the fork server, and a worker at least
        assert lines(runs / "tiny/history.jsonl") * 2 < STEPS, "it went too far before it was killed"
    for words in (["loading.workers=0"], ["name=straight"], ["name=held", "dataset.memory_gib=1"]):
        process = start("train", pets, *words)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
    for name in ("model", "ema", "optimizer"):
        wanted = final(runs / "straight", name)
        assert final(runs / "tiny", name) == wanted and final(runs / "held", name) == wanted


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_that_all_processes_hear_is_clean(pets: Path, signum: int, code: int) -> None:
    words = ["-m", "dmf", "train", str(pets), "train.steps=100000"]
    process = start_in_a_group(*words)
    run = pets.parent / "runs/tiny"
    trained_a_while(process, run)
    workers = below(process.pid)
    os.killpg(process.pid, signum)  # as a terminal's Ctrl-C does, and a cluster's end of time
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, out + err
    assert err.strip() == "stopping at the next safe place; Ctrl-C again stops at once"
    assert "nothing is lost" in out and "Error" not in out
    assert ended(workers, 10)
    assert list((run / "checkpoints").glob("step-*"))


def start_in_a_group(*words: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *words], env=environment, start_new_session=True, **pipes)  # type: ignore


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_goes_away_ends_the_run_by_its_name_and_keeps_what_was_trained(pets: Path, workers: int) -> None:
    process = start("train", pets, "train.steps=100000", f"loading.workers={workers}")
    run = pets.parent / "runs/tiny"
    trained_a_while(process, run, 4)
    (pets.parent / "pets/cat/7.png").unlink()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2, out + err
    assert err.startswith("error: ") and "7.png" in err and "Traceback" not in out + err
    assert list((run / "checkpoints").glob("step-*"))


def test_a_worker_killed_by_the_system_is_told_with_the_remedy(pets: Path) -> None:
    process = start("train", pets, "train.steps=100000")
    trained_a_while(process, pets.parent / "runs/tiny")
    for worker in below(process.pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            if worker.ppid() != process.pid:  # the fork server is the trainer's child, the workers are its children
                worker.kill()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2, out + err
    assert "killed by SIGKILL" in err and "loading.workers" in err and "Traceback" not in out + err


def test_a_file_that_one_rank_alone_reads_is_told_by_that_rank(pets: Path) -> None:
    for i in range(640):  # rank 0 looks at the first 600, for the sheet of the data
        paint(pets.parent / "more" / f"{i}.png", 4, 4, seed=i)
    seen = image_numbers(0, 640, 0, 624).reshape(-1, 2, 12)  # batches, ranks, shares
    bad = int(next(i for i in seen[2:, 1].flatten() if i >= 600))
    file = pets.parent / "more" / f"{bad}.png"
    file.write_bytes(file.read_bytes()[:-20] + bytes(20))
    data = "dataset={name: image_folder, root: more, size: 4, memory_gib: 0}"
    process = start("train", pets, data, "sampler.guidance=1", "--ranks", 2)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 2, out + err
    assert [line for line in err.splitlines() if line.startswith("error: ") and f"{bad}.png" in line], err
    assert "Traceback" not in out + err


def test_data_in_memory_start_no_other_process(tiny: Path) -> None:
    process = start("train", tiny, "train.steps=100000")
    trained_a_while(process, tiny.parent / "runs/tiny")
    assert not below(process.pid)
    process.kill()
    process.communicate()
