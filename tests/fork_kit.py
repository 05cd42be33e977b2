"""Ranks of `dmf` forked from a process that has imported everything: dozens of starts at the price of one.

Each is a process of its own all the same, to be killed at any moment. Where the counts are full, tests start `dmf` by
its command and its launcher instead, see `process_kit`.
"""

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

SERVER = multiprocessing.get_context("forkserver")
IMPORTED = ["dmf.runner.pipeline", "dmf.runner.session", "dmf.runner.commands.run", "sklearn.datasets", "fork_kit"]


class Ranks:
    """A command on some ranks, its output in files beside the run.

    Args:
        words: Of the command.
        count: How many ranks; what torchrun would tell them is in their environment.
    """

    def __init__(self, words: list[object], count: int) -> None:
        os.environ["OMP_NUM_THREADS"] = "1"
        SERVER.set_forkserver_preload(IMPORTED)
        self.screen = Path(f"screen-{time.monotonic_ns()}.txt").absolute()
        places = _places(count) if count > 1 else [{}]
        self.processes = [
            SERVER.Process(target=_work, args=([*map(str, words)], place, str(self.screen), os.getcwd()))
            for place in places
        ]
        for process in self.processes:
            process.start()

    @property
    def pids(self) -> list[int]:
        return [_pid(process) for process in self.processes]

    def running(self) -> bool:
        return all(process.is_alive() for process in self.processes)

    def kill(self) -> bool:
        """-9 for all; False if they had ended before."""
        if not self.running():
            return False
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return set(self.codes()) == {-signal.SIGKILL}

    def codes(self, timeout_s: float = 300) -> list[int | None]:
        """The exit codes, once all have ended."""
        for process in self.processes:
            process.join(timeout_s)
        return [process.exitcode for process in self.processes]

    def said(self) -> str:
        return self.screen.read_text(errors="replace")


def _pid(process: ForkServerProcess) -> int:
    assert process.pid is not None
    return process.pid


def _places(count: int) -> list[dict[str, str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common: dict[str, object] = {
        "WORLD_SIZE": count,
        "LOCAL_WORLD_SIZE": count,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    ranks = [{**common, "RANK": rank, "LOCAL_RANK": rank} for rank in range(count)]
    return [{name: str(value) for name, value in place.items()} for place in ranks]


def _work(words: list[str], place: dict[str, str], screen: str, folder: str) -> None:
    from dmf.runner.cli import main

    os.environ.update(place)
    os.chdir(folder)
    file = os.open(screen, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.exit(main(words))
