"""Two machines, of network namespaces, a rank on each: the link is cut, or a rank dies, and the commands go on."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import FULL
from docs_kit import ROOT, commands
from process_kit import kill_tree, lines, ranks_of, start, wait_for
from safetensors.torch import load_file

STEPS = 1500 if FULL else 800
TIMEOUT_S = 20
ENDS_IN_S = TIMEOUT_S + 90  # what docs/distributed.md says
HOSTS = {"dmf-a": "10.231.7.1", "dmf-b": "10.231.7.2"}
OMP = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
Process = subprocess.Popen[str]


def ip(words: str, check: bool = True) -> str:
    done = subprocess.run(["ip", *words.split()], text=True, capture_output=True)
    if check and done.returncode:
        raise OSError(done.stderr.strip())
    return done.stderr


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two hosts with a cable between them, named differently in nothing but their address."""
    made = list(HOSTS)
    a, b = made
    try:
        for name in made:
            ip(f"netns add {name}")
        ip(f"link add veth-{a} netns {a} type veth peer name veth-{b} netns {b}")
        for name, address in HOSTS.items():
            ip(f"-n {name} addr add {address}/24 dev veth-{name}")
            ip(f"-n {name} link set veth-{name} up")
            ip(f"-n {name} link set lo up")
    except OSError as error:
        remove(made)
        pytest.skip(f"network namespaces cannot be made here: {error}")
    yield made
    remove(made)


def remove(names: list[str]) -> None:
    for name in names:
        ip(f"netns delete {name}", check=False)


def begin(host: str, words: list[str]) -> Process:
    """The documented command, on a host."""
    (documented,) = [c for c in commands(ROOT / "docs/distributed.md") if "--rendezvous" in c and c[0] == "train"]
    recipe, *more = words
    documented[documented.index("digits_dit")] = recipe
    command = ["ip", "netns", "exec", host, sys.executable, "-m", "dmf", *documented, *more]
    return subprocess.Popen(command, text=True, env=OMP, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@contextlib.contextmanager
def both(hosts: list[str], words: list[str]) -> Iterator[list[Process]]:
    processes = [begin(host, words) for host in hosts]
    try:
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                kill_tree(process.pid)


@pytest.mark.slow
def test_the_link_is_cut_and_the_same_commands_go_on(tiny: Path, hosts: list[str]) -> None:
    run = tiny.parent / "runs/tiny"
    every = ["checkpoint.every=20", "log.every=10", f"distributed.timeout_s={TIMEOUT_S}"]
    words = [str(tiny), f"train.steps={STEPS}", *every]
    with both(hosts, words) as processes:
        wait_for(lambda: lines(run / "history.jsonl") > 5, processes[0])
        assert [process.poll() for process in processes] == [None, None], processes[0].communicate()
        ip("-n dmf-b link set veth-dmf-b down")
        cut = time.monotonic()
        said = [process.communicate(timeout=ENDS_IN_S) for process in processes]
        assert time.monotonic() - cut < ENDS_IN_S
        print(f"both ended {time.monotonic() - cut:.0f} s after the cut")
    assert [process.returncode for process in processes] == [1, 1], said
    for _, err in said:
        assert "error:" in err and "Traceback" not in err, err
        assert len(err.splitlines()) < 12, err
    reached = lines(run / "history.jsonl")
    assert reached < STEPS / 10, "it was done before the link was cut: take more steps"
    ip("-n dmf-b link set veth-dmf-b up")
    with both(hosts, words) as processes:
        said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert "going on from step" in said[0][0] + said[1][0]
    alone = start("train", *words, "name=alone", "--ranks", 2)  # on one machine, never disturbed
    assert alone.communicate(timeout=300) and alone.returncode == 0
    a, b = (
        load_file(run.parent / name / f"checkpoints/step-{STEPS:08d}/model.safetensors") for name in ("tiny", "alone")
    )
    assert all(torch.equal(a[key], b[key]) for key in b), "two ranks are two ranks, wherever they are"


@pytest.mark.slow
def test_a_rank_dies_and_the_other_machine_whose_ranks_do_not_notice_starts_them_again(
    tiny: Path, hosts: list[str]
) -> None:
    """A rank that is stopped stands for one that waits without an error, as with NCCL, or works alone for long."""
    run = tiny.parent / "runs/tiny"
    words = [str(tiny), "train.steps=60", "checkpoint.every=5", "log.every=5", "--restarts", "1", "--grace", "3"]
    with both(hosts, words) as processes:
        wait_for(lambda: lines(run / "history.jsonl") > 2, processes[0])
        assert [process.poll() for process in processes] == [None, None], processes[0].communicate()
        (dies,), (waits,) = map(ranks_of, processes)
        waits.send_signal(signal.SIGSTOP)
        dies.kill()
        said = [process.communicate(timeout=90) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert "going on from step" in said[0][0] + said[1][0]
    restarts = [line for _, err in said for line in err.splitlines() if "restart" in line]
    assert restarts == [
        "a rank was killed by signal 9; restart 1 of 1, from the last checkpoint",
        "another machine starts its ranks again; restart 1 of 1, from the last checkpoint",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("dying", [0, 1], ids=["that hosts the meeting place", "that does not"])
def test_a_machine_gives_up_and_the_other_whose_ranks_do_not_notice_does_too(
    tiny: Path, hosts: list[str], dying: int
) -> None:
    run = tiny.parent / "runs/tiny"
    words = [str(tiny), f"train.steps={STEPS}", "log.every=5", "--restarts", "0", "--grace", "3"]
    with both(hosts, words) as processes:
        wait_for(lambda: lines(run / "history.jsonl") > 2, processes[0])
        assert [process.poll() for process in processes] == [None, None], processes[0].communicate()
        ranks = [ranks_of(process)[0] for process in processes]
        ranks[1 - dying].send_signal(signal.SIGSTOP)
        ranks[dying].kill()
        said = [process.communicate(timeout=30) for process in processes]
    assert [process.returncode for process in processes] == [1, 1], said
    assert "a rank was killed by signal 9" in said[dying][1]
    assert "another machine has ended the run" in said[1 - dying][1]
