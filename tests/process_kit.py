"""Starting `dmf` as a process of its own, and killing it."""

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil


def start(*words: object, module: Sequence[object] = ("dmf",)) -> "subprocess.Popen[str]":
    """A `dmf` on one thread, or another module, its output in pipes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", *map(str, module), *map(str, words)]
    return subprocess.Popen(command, text=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def lines(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def wait_for(there: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait until something is there, which the process makes; at most two minutes, and not longer than it lives."""
    until = time.monotonic() + 120
    while not there() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)


def ranks_of(launcher: "subprocess.Popen[str]") -> list[psutil.Process]:
    return [child for child in psutil.Process(launcher.pid).children() if "dmf" in " ".join(child.cmdline())]


def kill_in_training(process: "subprocess.Popen[str]", run: Path, moment: random.Random) -> bool:
    """Wait until it trains, then a random moment, then kill the whole group; False if it was done before."""
    before = lines(run / "history.jsonl")
    wait_for(lambda: lines(run / "history.jsonl") > before, process)
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
