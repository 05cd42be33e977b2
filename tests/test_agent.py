"""The launcher's agent on one machine: how long ranks have, that it leaves, and that no question to others holds it."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, start_processes
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
from torch.distributed.elastic.rendezvous import RendezvousClosedError, RendezvousConnectionError

from dmf.runner.launching import HOPELESS, neighbours
from dmf.runner.launching import agent as agent_module
from dmf.runner.launching.agent import Agent, exit_code
from dmf.runner.launching.neighbours import Neighbours
from dmf.runner.training.guard import Diverged

DEAF = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[1], 'w'); time.sleep(60)"


FAILING = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(.05)\nsys.exit(3)"


def place(given_up: bool = False) -> SimpleNamespace:
    """A meeting place where nobody waits."""
    return SimpleNamespace(num_nodes_waiting=int, is_closed=lambda: given_up)


def wait_for_file(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.05)


def test_ranks_have_the_grace_that_was_asked_for_on_every_torch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = LocalElasticAgent._shutdown

    def as_in_2_8(agent: LocalElasticAgent, death_sig: signal.Signals = signal.SIGTERM) -> None:
        whole(agent, death_sig)

    monkeypatch.setattr(LocalElasticAgent, "_shutdown", as_in_2_8)
    spec = WorkerSpec("dmf", 1, place(), entrypoint=sys.executable)
    agent = Agent(spec, str(tmp_path), grace_s=1)
    there = tmp_path / "there"
    logs = DefaultLogsSpecs(log_dir=str(tmp_path))
    agent._pcontext = start_processes("dmf", sys.executable, {0: ("-c", DEAF, str(there))}, {0: {}}, logs)
    wait_for_file(there)
    began = time.monotonic()
    agent._shutdown()
    assert 1 <= time.monotonic() - began < 10, "torch's own patience is 30 s"
    assert agent._pcontext.subprocess_handlers[0].proc.returncode == -signal.SIGKILL


def test_a_rank_that_hangs_beside_one_that_failed_has_no_more_than_that(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    there = tmp_path / "there"

    def two(agent: Agent, group: WorkerGroup) -> dict[int, int]:
        args = {0: ("-c", DEAF, str(there)), 1: ("-c", FAILING, str(there))}
        logs = DefaultLogsSpecs(log_dir=str(tmp_path))
        agent._pcontext = start_processes("dmf", sys.executable, args, {0: {}, 1: {}}, logs)
        return agent._pcontext.pids()

    monkeypatch.setattr(LocalElasticAgent, "_start_workers", two)
    spec = WorkerSpec("dmf", 2, place(), entrypoint=sys.executable)
    agent = Agent(spec, str(tmp_path), grace_s=1)
    agent._start_workers(WorkerGroup(spec))
    assert agent._pcontext is not None
    began = time.monotonic()
    result = agent._pcontext.wait()
    assert result is not None and result.failures[1].exitcode == 3
    assert time.monotonic() - began < 20, "torch's own patience is 30 s"


def test_it_leaves_though_a_restart_begins_in_that_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    told: Iterator[tuple[float, int] | None] = iter([(0.0, 7), None])

    class Restarting(Agent):
        _leaves = property(lambda self: next(told))  # type: ignore[assignment]

    def left(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", left)
    with pytest.raises(SystemExit) as ended:
        object.__new__(Restarting)._leave_in_time()
    assert ended.value.code == 7


def test_once_it_has_left_by_itself_it_ends_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(LocalElasticAgent, "run", lambda self, role: RunResult(WorkerState.SUCCEEDED))
    agent = object.__new__(Agent)
    agent._over, agent._leaves = threading.Event(), (time.monotonic() + 0.2, 7)
    agent.run()
    time.sleep(0.8)
    assert ended == []


def test_it_leaves_though_the_meeting_place_swallows_its_farewell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left, failures = threading.Event(), {0: ProcessFailure(0, 1, -9, "")}
    monkeypatch.setattr(os, "_exit", lambda code: left.set())
    monkeypatch.setattr(LocalElasticAgent, "run", lambda self, role: RunResult(WorkerState.FAILED, failures=failures))
    agent = object.__new__(Agent)
    agent._over, agent._leaves = threading.Event(), (time.monotonic() + 0.2, 7)
    agent._neighbours = Neighbours(int)
    handler = SimpleNamespace(shutdown=lambda: left.wait(20))
    agent._worker_group = SimpleNamespace(spec=SimpleNamespace(rdzv_handler=handler), group_world_size=1)
    agent.run()
    assert left.is_set()
    assert "killed by signal 9" in capsys.readouterr().err


def test_a_question_without_an_answer_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "ASKED_EVERY_S", 0)
    answered, asked = threading.Event(), list[int]()

    def swallowed() -> int:
        asked.append(1)
        answered.wait(20)
        return 1

    others = Neighbours(swallowed)
    began = time.monotonic()
    assert [others.waiting() for _ in range(3)] == [0, 0, 0]
    assert time.monotonic() - began < 5 and asked == [1], "one question at a time"
    answered.set()
    assert known(others, 1)
    with others.silent():
        before = len(asked)
        assert others.waiting() == 0, "what was known is of an earlier meeting"
        assert len(asked) == before


def known(others: Neighbours, waiting: int) -> bool:
    until = time.monotonic() + 20
    while others.waiting() != waiting and time.monotonic() < until:
        time.sleep(0.01)
    return others.waiting() == waiting


def test_an_answer_that_fails_is_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "ASKED_EVERY_S", 0)
    lost = threading.Event()

    def ask() -> int:
        if lost.is_set():
            raise RendezvousConnectionError("gone")
        return 1

    others = Neighbours(ask)
    assert known(others, 1)
    lost.set()
    assert known(others, 0)


def test_another_machine_that_waits_is_one_of_the_restarts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    spec = WorkerSpec("dmf", 1, place(), entrypoint=sys.executable, max_restarts=1)
    agent = Agent(spec, str(tmp_path), grace_s=1)
    closed: list[tuple[object, ...]] = []
    agent._pcontext = SimpleNamespace(close=lambda *how: closed.append(how))  # type: ignore[assignment]
    agent._neighbours = SimpleNamespace(waiting=lambda: 1)  # type: ignore[assignment]
    others_wait = spec.rdzv_handler.num_nodes_waiting
    assert others_wait() == 0, "a machine alone asks nobody"
    agent._worker_group.group_world_size = 2
    assert others_wait() == 1 and closed[0][0] == signal.SIGTERM
    assert capsys.readouterr().err == (
        "another machine starts its ranks again; restart 1 of 1, from the last checkpoint\n"
    )
    assert agent._leaves is not None, "the machines may be out of reach of each other by now"
    assert others_wait() == 0 and len(closed) == 1, "none is left"


def test_another_machine_that_has_given_up_ends_the_ranks_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(agent_module, "HEARD_S", 0)
    spec = WorkerSpec("dmf", 1, place(given_up=True), entrypoint=sys.executable, max_restarts=1)
    agent = Agent(spec, str(tmp_path), grace_s=1)
    others_wait = spec.rdzv_handler.num_nodes_waiting
    closed: list[tuple[object, ...]] = []
    agent._pcontext = SimpleNamespace(close=lambda *how: closed.append(how))  # type: ignore[assignment]
    agent._worker_group.group_world_size = 2
    until = time.monotonic() + 20
    with pytest.raises(RendezvousClosedError):
        while time.monotonic() < until:
            others_wait()
    assert closed[0][0] == signal.SIGTERM
    assert capsys.readouterr().err == "", "the other's screen says why"


@pytest.mark.parametrize(
    ("code", "again", "launchers"), [(1, 2, 1), (HOPELESS, 0, 1), (2, 0, 2), (143, 0, 143), (-9, 2, 1)]
)
def test_ranks_that_would_fail_again_are_not_started_again(
    capsys: pytest.CaptureFixture[str], code: int, again: int, launchers: int
) -> None:
    agent = object.__new__(Agent)
    agent._remaining_restarts = 2
    failures = {0: ProcessFailure(0, 1, code, "")}
    agent._worker_group = SimpleNamespace(spec=SimpleNamespace(max_restarts=2))
    agent._failed(RunResult(WorkerState.FAILED, failures=failures))
    assert agent._remaining_restarts == again
    assert exit_code(failures) == launchers
    assert ("restart 1 of 2" in capsys.readouterr().err) == (again > 0)


def test_a_training_that_diverged_would_do_so_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Diverged("not finite").exit_code == 1
    monkeypatch.setenv("RANK", "0")
    assert Diverged("not finite").exit_code == 1  # another launcher has no way to know
    monkeypatch.setenv("DMF_LAUNCHER", "1")
    assert Diverged("not finite").exit_code == HOPELESS
