"""torch's elastic agent, which starts the ranks of one machine and watches them; with manners at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping

from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
from torch.distributed.elastic.rendezvous import RendezvousClosedError, RendezvousError

from ..signals import IMPATIENT_AFTER_S
from .endpoint import PATIENCE_S
from .neighbours import ASKED_EVERY_S, Neighbours
from .place import HOPELESS

STUCK_S, BARRIER_S = 20.0, 330.0  # to take leave of the other machines: of a run that failed, that is done
IN_VAIN_S = 30  # for ranks to stop in beside one that failed: no checkpoint comes of it
HEARD_S = ASKED_EVERY_S + 2  # until every machine has asked: the meeting place lives no longer than the one it is on
FINAL = (2, HOPELESS, 128 + signal.SIGINT, 128 + signal.SIGTERM)  # to try again is no help, or was not asked for


class Agent(LocalElasticAgent):
    """Its own are: which exits are final, how long a stop may take, what is done but once, and that it never hangs.

    torch's waits for its meeting place without end where the network swallows what is sent. So it asks there aside
    whether another machine waits, or has given up; and once its ranks have ended it leaves in any case.

    Args:
        spec: The ranks of this machine.
        logs: Where torch keeps files while it runs.
        grace_s: Time that ranks have to stop in, before they are killed.
        once: Words of the command that a restarted rank is not given again.
    """

    def __init__(self, spec: WorkerSpec, logs: str, *, grace_s: int, once: Collection[str] = ()) -> None:
        super().__init__(spec, DefaultLogsSpecs(log_dir=logs))
        self.grace_s, self.once = grace_s, once
        closed, waiting = spec.rdzv_handler.is_closed, spec.rdzv_handler.num_nodes_waiting
        self._neighbours = Neighbours(lambda: None if closed() else waiting())
        spec.rdzv_handler.num_nodes_waiting = self._others_wait  # type: ignore[method-assign]
        self._leaves: tuple[float, int] | None = None  # when, at last, and with which exit code
        self._over = threading.Event()  # it has left by itself

    def run(self, role: str = "default") -> RunResult:
        """The work of the ranks, and the leave of other machines; after it nothing here ends the process any more."""
        threading.Thread(target=self._leave_in_time, name="dmf-agent", daemon=True).start()
        try:
            result: RunResult = super().run(role)
            if result.is_failed():
                self._end(result.failures)
            return result
        finally:
            self._over.set()

    def _end(self, failures: Mapping[int, ProcessFailure]) -> None:
        """Tell the user, and machines that may wait for this one, that it does not come back."""
        if first_failure(failures).exitcode < 0:  # who was killed could not say so
            print(f"error: {told(failures)}; run the command again to carry on", file=sys.stderr, flush=True)
        with contextlib.suppress(RendezvousError), self._neighbours.silent():  # they are gone, or out of reach
            self._worker_group.spec.rdzv_handler.shutdown()
            if not self._alone:
                time.sleep(HEARD_S)

    @property
    def _alone(self) -> bool:
        return (self._worker_group.group_world_size or 1) == 1

    def _rendezvous(self, worker_group: WorkerGroup) -> None:
        with self._neighbours.silent():
            super()._rendezvous(worker_group)

    def _others_wait(self) -> int:
        """How many machines have lost a rank and wait for this one; torch then starts the ranks here again as well.

        Those need not notice by themselves: rank 0 may work alone for long, and NCCL waits without an error. It counts
        as a restart, here as there, so that all machines have as many left.

        Raises:
            RendezvousClosedError: One has given up: the ranks here, which are stopped, would wait for it in vain.
        """
        waiting = 0 if self._alone else self._neighbours.waiting()
        if waiting is None:
            self._stop_in_vain()
            time.sleep(HEARD_S)
            raise RendezvousClosedError
        if not waiting or not self._remaining_restarts:
            return 0
        self._say_restart("another machine starts its ranks again")
        self._remaining_restarts -= 1
        self._stop_in_vain()
        self._leaves = time.monotonic() + PATIENCE_S + STUCK_S, 1
        return waiting

    def _stop_in_vain(self) -> None:
        assert self._pcontext is not None, "its ranks are at work"
        self._pcontext.close(signal.SIGTERM, IN_VAIN_S)

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, int]:
        self._leaves = None
        started: dict[int, int] = super()._start_workers(worker_group)
        assert self._pcontext is not None, "it has just been made"
        self._pcontext.close = self._in_grace(self._pcontext.close)  # type: ignore[method-assign]
        spec = worker_group.spec
        spec.args = tuple(word for word in spec.args if word not in self.once)
        return started

    def _in_grace(self, close: Callable[[signal.Signals | None, int], None]) -> Callable[..., None]:
        """Beside a rank that failed the others have torch's 30 s, as no checkpoint comes; never more than the grace."""

        def shorter(death_sig: signal.Signals | None = None, timeout: int = IN_VAIN_S) -> None:
            close(death_sig, min(timeout, self.grace_s))

        return shorter

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)
        if result.state is WorkerState.SUCCEEDED:
            self._leaves = time.monotonic() + BARRIER_S, 0
        if result.state is WorkerState.FAILED:
            self._failed(result)
        return result

    def _failed(self, result: RunResult) -> None:
        if first_failure(result.failures).exitcode in FINAL:
            self._remaining_restarts = 0
        again = self._remaining_restarts > 0
        self._leaves = time.monotonic() + (PATIENCE_S if again else 0) + STUCK_S, exit_code(result.failures)
        if again:
            self._say_restart(told(result.failures))

    def _say_restart(self, why: str) -> None:
        most = self._worker_group.spec.max_restarts
        said = f"restart {most - self._remaining_restarts + 1} of {most}, from the last checkpoint"
        print(f"{why}; {said}", file=sys.stderr, flush=True)

    def _leave_in_time(self) -> None:
        while (leaves := self._leaves) is None or time.monotonic() < leaves[0]:  # a restart may unset it in between
            if self._over.wait(0.5):
                return
        print("error: the other machines are out of reach; run the command on each to carry on", file=sys.stderr)
        sys.stderr.flush()
        os._exit(leaves[1])  # the main thread waits for them, and would for ever

    def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, timeout: int = 30) -> None:
        """Pass the signal on and wait. A second Ctrl-C ends the ranks at once; whatever else comes changes nothing."""
        began = time.monotonic()
        while True:
            try:
                if self._pcontext is not None:
                    self._pcontext.close(death_sig, self.grace_s)  # torch 2.8 would give them 30 s, whatever it is told
                super()._shutdown(death_sig)  # nobody is left; the rest of what it has
                return
            except SignalException as again:
                if again.sigval == signal.SIGINT and time.monotonic() - began > IMPATIENT_AFTER_S:
                    death_sig = signal.SIGKILL


def first_failure(failures: Mapping[int, ProcessFailure]) -> ProcessFailure:
    """The one that explains the others: the first that ended; of several in one second one that was killed."""

    def killed(one: ProcessFailure) -> bool:
        return one.exitcode < 0 and -one.exitcode != signal.SIGTERM  # that is how the agent ends the others

    return min(failures.values(), key=lambda one: (one.timestamp, not killed(one)))


def exit_code(failures: Mapping[int, ProcessFailure]) -> int:
    """The launcher's, of ranks that failed."""
    code = first_failure(failures).exitcode
    return code if code > 0 and code != HOPELESS else 1


def told(failures: Mapping[int, ProcessFailure]) -> str:
    """Of ranks that failed, what a person wants to know."""
    code = first_failure(failures).exitcode
    return f"a rank was killed by signal {-code}" if code < 0 else f"a rank ended with exit code {code}"
