"""A rank dies and the run goes on; the launcher is asked to stop, or dies; a rank hangs: nothing waits for ever."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from conftest import FULL
from process_kit import kill_tree, lines, ranks_of, start, wait_for
from safetensors.torch import load_file

KILLS, UNDER_TORCHRUN = (10, 3) if FULL else (2, 1)
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
OFTEN = ["checkpoint.every=5", "log.every=5"]
ENDS_IN_S = 60
Process = subprocess.Popen[str]


@pytest.fixture
def begun() -> Iterator[list[Process]]:
    """Processes that are killed after the test, whatever became of it."""
    processes: list[Process] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            kill_tree(process.pid)


def torchrun(restarts: int, *words: object) -> Process:
    command = [sys.executable, "-m", *TORCHRUN, "--max-restarts", str(restarts), "-m", "dmf", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, text=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def newest(run: Path) -> Path:
    return max((run / "checkpoints").glob("step-*"))


def in_training(process: Process, run: Path, more: int = 2) -> list[psutil.Process]:
    """Wait until it trains, ``more`` logged points from now; its ranks."""
    before = lines(run / "history.jsonl")
    wait_for(lambda: lines(run / "history.jsonl") >= before + more, process)
    assert process.poll() is None, process.communicate()
    return ranks_of(process)


def kill_one_rank(process: Process, run: Path, moment: random.Random, times: int) -> None:
    for _ in range(times):
        ranks = in_training(process, run)
        time.sleep(moment.uniform(0, 0.1))
        moment.choice(ranks).kill()


def last(run: Path) -> dict[str, bytes]:
    return {key: value.numpy().tobytes() for key, value in load_file(newest(run) / "model.safetensors").items()}


@pytest.mark.slow
def test_a_rank_that_is_killed_is_replaced(tiny: Path, begun: list[Process]) -> None:
    runs, moment, steps = tiny.parent / "runs", random.Random(0), 30 * (KILLS + 2)
    words = ["train", tiny, f"train.steps={steps}", *OFTEN]
    begun.append(start(*words, "--ranks", 2, "--restarts", KILLS, "--fresh"))
    kill_one_rank(begun[0], runs / "tiny", moment, KILLS)
    out, err = begun[0].communicate(timeout=120 + 30 * KILLS)
    assert begun[0].returncode == 0, out + err
    assert [line for line in err.splitlines() if "restart" in line] == [
        f"a rank was killed by signal 9; restart {k + 1} of {KILLS}, from the last checkpoint" for k in range(KILLS)
    ]
    assert "Traceback" not in err and not (runs / "tiny.1").exists(), "--fresh is done once"
    begun.append(torchrun(UNDER_TORCHRUN, *words, "name=torchrun"))
    kill_one_rank(begun[1], runs / "torchrun", moment, UNDER_TORCHRUN)
    out, err = begun[1].communicate(timeout=120 + 30 * UNDER_TORCHRUN)
    assert begun[1].returncode == 0, out + err
    assert last(runs / "torchrun") == last(runs / "tiny")  # each was killed elsewhere: neither shows


@pytest.mark.slow
def test_asked_to_stop_it_writes_a_checkpoint_and_is_not_started_again(tiny: Path, begun: list[Process]) -> None:
    run = tiny.parent / "runs/tiny"
    words = ["train", tiny, "train.steps=100000", "checkpoint.every=100000", "log.every=5", "--ranks", 2]
    begun.append(start(*words, "--restarts", 5))
    in_training(begun[0], run)[0].terminate()  # one rank alone, as a scheduler may do it
    out, err = begun[0].communicate(timeout=2 * ENDS_IN_S)
    assert begun[0].returncode == 143 and "restart" not in err and "Traceback" not in err, out + err
    first = newest(run)
    begun.append(start(*words))
    ranks = in_training(begun[1], run)
    begun[1].kill()  # the launcher; its ranks see it
    _, alive = psutil.wait_procs(ranks, timeout=ENDS_IN_S)
    assert not alive and newest(run) > first


@pytest.mark.slow
@pytest.mark.skipif(not FULL, reason="a minute of waiting; tests/test_two_hosts.py sees a wait end too")
def test_a_rank_that_hangs_ends_the_run(tiny: Path, begun: list[Process]) -> None:
    run, wait_s = tiny.parent / "runs/tiny", 20
    words = ["train", tiny, "train.steps=100000", *OFTEN, f"distributed.timeout_s={wait_s}"]
    begun.append(start(*words, "--ranks", 2, "--grace", 3))
    hung = in_training(begun[0], run)[1]
    hung.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    out, err = begun[0].communicate(timeout=2 * ENDS_IN_S)
    assert begun[0].returncode == 1, out + err
    assert time.monotonic() - began < wait_s + ENDS_IN_S
    assert err.count("error:") == 1 and "did not answer in 20 s" in err and "Traceback" not in err, err
    assert json.loads((run / "history.jsonl").read_text().splitlines()[0])["step"] == 5
