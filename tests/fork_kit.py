"""Ranks forked from a process that has imported everything: dozens of starts at the price of one.

Each is a process of its own all the same, to be killed at any moment. `Ranks` do a command of `dmf`, `on_ranks` a
function. Where the counts are full, or a launcher is what is tested, tests start `dmf` by its command and its launcher
instead, see `process_kit`.
"""

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch

SERVER = multiprocessing.get_context("forkserver")
IMPORTED = [
    "dmf.runner.pipeline",
    "dmf.runner.session",
    "dmf.runner.commands.run",
    "torch.distributed.checkpoint",
    "torch.distributed.fsdp",
    "sklearn.datasets",
    "fork_kit",
]
OTHERS_S = 20.0  # that ranks have to end by themselves once one has failed
_servers: list[int] = []  # the last is ours


class Processes:
    """One for each rank.

    Args:
        count: How many; what torchrun would tell them is in their environment.
        target: What each does, given ``given`` in this folder and with this environment.
        given: To it, beside its environment and folder; can be pickled.
    """

    def __init__(self, count: int, target: Callable[..., None], *given: object) -> None:
        _serve()
        self.processes = [
            SERVER.Process(target=_begin, args=({**os.environ, **place}, os.getcwd(), target, given))
            for place in (_places(count) if count > 1 else [{}])
        ]
        for process in self.processes:
            process.start()
        _servers.append(_server())

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

    def failed(self, timeout_s: float = 300) -> bool:
        """Whether one failed; then, or after so long, all have ended."""
        until = time.monotonic() + timeout_s
        while left := [one.sentinel for one in self.processes if one.is_alive()]:
            connection.wait(left, max(0.0, until - time.monotonic()))
            if time.monotonic() >= until:
                break
            if any(one.exitcode for one in self.processes):
                until = min(until, time.monotonic() + OTHERS_S)
        for one in self.processes:
            one.kill()
            one.join()
        return any(one.exitcode for one in self.processes)


class Ranks(Processes):
    """A command on some ranks, its output in files beside the run.

    Args:
        words: Of the command.
        count: How many ranks.
    """

    def __init__(self, words: Sequence[object], count: int) -> None:
        self.screen = Path(f"screen-{time.monotonic_ns()}.txt").absolute()
        super().__init__(count, _command, [*map(str, words)], str(self.screen))

    def said(self) -> str:
        return self.screen.read_text(errors="replace")


class Working(Processes):
    """A function on some ranks, as `on_ranks` has it, which one may kill.

    Args:
        count: How many ranks.
        work: ``work(world, *given)``, of a module.
        given: To it; can be pickled.
    """

    def __init__(self, count: int, work: Callable[..., None], *given: Any) -> None:
        self.folder = Path(tempfile.mkdtemp())
        super().__init__(count, _function, str(self.folder), work, given)

    def said(self) -> str:
        told = [path.read_text() for path in sorted(self.folder.iterdir())]
        return "\n".join(told) or "a rank was killed, or did not end in time"


def on_ranks(count: int, work: Callable[..., None], *given: Any) -> None:
    """``work(world, *given)`` on each of some ranks; what one raises is told here.

    Args:
        count: How many ranks.
        work: A function of a module.
        given: To it; can be pickled.
    """
    ranks = Working(count, work, *given)
    assert not ranks.failed(), ranks.said()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _server() -> int:
    return int(forkserver._forkserver._forkserver_pid or 0)  # type: ignore[attr-defined]


def _serve() -> None:
    """Have a server that has imported everything and is to use one thread.

    A process has but one. Data workers that were first have started one that knows next to nothing, is to use all
    cores and has their signals blocked; ranks of it would take half a minute to start.
    """
    if _server() not in (0, *_servers[-1:]):
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
    os.environ["OMP_NUM_THREADS"] = "1"
    SERVER.set_forkserver_preload(IMPORTED)


def _pid(process: ForkServerProcess) -> int:
    assert process.pid is not None
    return process.pid


def _places(count: int) -> list[dict[str, str]]:
    common: dict[str, object] = {
        "WORLD_SIZE": count,
        "LOCAL_WORLD_SIZE": count,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
    }
    ranks = [{**common, "RANK": rank, "LOCAL_RANK": rank} for rank in range(count)]
    return [{name: str(value) for name, value in place.items()} for place in ranks]


def _begin(environment: dict[str, str], folder: str, target: Callable[..., None], given: tuple[Any, ...]) -> None:
    os.environ.clear()  # the server has that of its own start
    os.environ.update(environment)
    os.chdir(folder)
    target(*given)


def _command(words: list[str], screen: str) -> None:
    from dmf.runner.cli import main

    file = os.open(screen, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.exit(main(words))


def _function(folder: str, work: Callable[..., None], given: tuple[Any, ...]) -> None:
    from dmf.runner.world import join, leave

    torch.set_num_threads(1)
    try:
        work(join("cpu"), *given)
    except BaseException:
        Path(folder, f"rank-{os.environ.get('RANK', '0')}.txt").write_text(traceback.format_exc())
        sys.exit(1)
    finally:
        leave()
