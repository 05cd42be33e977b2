"""torch's elastic agent, which starts the ranks of one machine and watches them; with manners at the end."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Collection, Mapping

from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from ..signals import IMPATIENT_AFTER_S

FINAL = (2, 128 + signal.SIGINT, 128 + signal.SIGTERM)  # a user's mistake, asked to stop: to try again is no help


class Agent(LocalElasticAgent):
    """Three things are its own: which exits are final, how long a stop may take, what is done but once.

    Args:
        spec: The ranks of this machine.
        logs: Where torch keeps files while it runs.
        grace_s: Time that ranks have to stop in, before they are killed.
        once: Words of the command that a restarted rank is not given again.
    """

    def __init__(self, spec: WorkerSpec, logs: str, *, grace_s: int, once: Collection[str] = ()) -> None:
        super().__init__(spec, DefaultLogsSpecs(log_dir=logs))
        self.grace_s, self.once = grace_s, once

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, int]:
        started: dict[int, int] = super()._start_workers(worker_group)
        spec = worker_group.spec
        spec.args = tuple(word for word in spec.args if word not in self.once)
        return started

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)
        if result.state is WorkerState.FAILED:
            if exit_code(result.failures) in FINAL:
                self._remaining_restarts = 0
            elif self._remaining_restarts:
                most = worker_group.spec.max_restarts
                said = f"restart {most - self._remaining_restarts + 1} of {most}, from the last checkpoint"
                print(f"{told(result.failures)}; {said}", file=sys.stderr, flush=True)
        return result

    def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, timeout: int = 30) -> None:
        """Pass the signal on and wait. A second Ctrl-C ends the ranks at once; whatever else comes changes nothing."""
        began = time.monotonic()
        while True:
            try:
                super()._shutdown(death_sig, self.grace_s)
                return
            except SignalException as again:
                if again.sigval == signal.SIGINT and time.monotonic() - began > IMPATIENT_AFTER_S:
                    death_sig = signal.SIGKILL


def first_failure(failures: Mapping[int, ProcessFailure]) -> ProcessFailure:
    """The one that explains the others: a process that was killed, else the first that ended."""
    killed = [one for one in failures.values() if one.exitcode < 0 and -one.exitcode != signal.SIGTERM]
    return min(killed or failures.values(), key=lambda one: one.timestamp)


def exit_code(failures: Mapping[int, ProcessFailure]) -> int:
    """The launcher's, of ranks that failed."""
    code = first_failure(failures).exitcode
    return code if code > 0 else 1


def told(failures: Mapping[int, ProcessFailure]) -> str:
    """Of ranks that failed, what a person wants to know."""
    code = first_failure(failures).exitcode
    return f"a rank was killed by signal {-code}" if code < 0 else f"a rank ended with exit code {code}"
