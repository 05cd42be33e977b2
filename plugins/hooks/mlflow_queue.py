"""The MLflow hook's outbox: what is to be sent, kept in order, sent by one thread, never by training.

Two lanes, so that a store of files that is down holds up no curve: `store` (points, tags, status) and `files` (images,
artifacts). What a lane cannot send it keeps and tries again, ever more slowly.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .mlflow_spool import Operation, Spool, log
from .mlflow_store import masked

GATHER_S = 0.5
BACKOFF_MAX_S = 30.0
BACKOFF_AT_END_S = 0.5
BATCH_OPERATIONS = 500
FILES_LANE = ("image", "file", "text")
_LEFT: dict[Path, threading.Thread] = {}  # the spool -> a worker that was given up and may still be in a request


class Refused(Exception):
    """The store will never take this operation; trying again is no use."""


@dataclass
class Lane:
    """A queue with its own back-off; only the worker takes from it."""

    queue: deque[Operation] = field(default_factory=deque)
    batch: int = BATCH_OPERATIONS
    failures: int = 0
    next_try_s: float = 0.0
    last_sent_s: float = 0.0
    reason: str = ""

    def head(self) -> list[Operation]:
        """The operations of the next request: the first, and its neighbours where they go together."""
        operations: list[Operation] = []
        for operation in tuple(islice(self.queue, self.batch)):
            if operations and not (operation.batchable and operations[0].batchable):
                break
            operations.append(operation)
        return operations

    def sent(self, operations: Sequence[Operation]) -> None:
        """Take what was sent (or refused) off the queue."""
        for _ in operations:
            self.queue.popleft()
        self.batch, self.failures, self.last_sent_s = BATCH_OPERATIONS, 0, time.monotonic()

    def failed(self, error: Exception, at_end: bool) -> None:
        """Keep everything and wait longer than the last time."""
        self.failures += 1
        self.reason = masked((str(error).strip() or type(error).__name__).splitlines()[0])[:200]
        longest_s = BACKOFF_AT_END_S if at_end else BACKOFF_MAX_S
        self.next_try_s = time.monotonic() + min(GATHER_S * 2**self.failures, longest_s)


class Outbox:
    """Sends operations in order from a thread of its own.

    Args:
        send: Called in the worker with operations that go together; raises Refused for what can never be sent and
            anything else for what is to be tried again.
        spool: Where the unsent is kept.
        where: The store, for messages.
        goes_on: Whether a status that an earlier process left is outdated, as the run is at work again.
    """

    def __init__(
        self, send: Callable[[Sequence[Operation]], None], spool: Spool, where: str, goes_on: bool = True
    ) -> None:
        self._send, self._spool, self._where, self._goes_on = send, spool, where, goes_on
        self._place = spool.folder.resolve()
        self._store, self._files = Lane(), Lane()
        self._opened = False
        self._signal, self._ending, self._stopped = threading.Event(), threading.Event(), threading.Event()
        self._last_ms = 0
        self._numbering = threading.Lock()
        self._worker = threading.Thread(target=self._work, name="dmf-mlflow", daemon=True)

    def start(self) -> None:
        """Put the opening of the run first, then what an earlier process left, and begin."""
        self._store.queue.append(Operation("open", {}, self.now_ms()))
        for operation in self._spool.read():
            self._last_ms = max(self._last_ms, operation.time_ms)
            if operation.kind == "status" and self._goes_on:
                self._spool.remove(operation)
            else:
                self._lane(operation).queue.append(operation)
        self._signal.set()
        self._worker.start()

    def now_ms(self) -> int:
        """The time, later than at any call before: MLflow tells equal points from repeated ones by it."""
        with self._numbering:
            self._last_ms = max(self._last_ms + 1, time.time_ns() // 1_000_000)
            return self._last_ms

    def put(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Queue an operation that something else remembers: history.jsonl, or the next start of the run."""
        self._queue(Operation(kind, payload, self.now_ms()))

    def keep(self, kind: str, payload: Mapping[str, Any], pixels: NDArray[np.uint8] | None = None) -> None:
        """Queue an operation and keep it on disk until it is sent."""
        self._queue(self._spool.write(Operation(kind, payload, self.now_ms()), pixels))

    def pending(self, kind: str) -> list[Mapping[str, Any]]:
        """The payloads of a kind that wait behind the one whose turn it is, which may be half sent."""
        lane = self._files if kind in FILES_LANE else self._store
        return [operation.payload for operation in tuple(lane.queue)[1:] if operation.kind == kind]

    def finish(self, patience_s: float, at_most_s: float = float("inf")) -> str | None:
        """Wait until all is sent.

        Args:
            patience_s: How long to wait for a store that does not answer. One that does is given all the time it needs.
            at_most_s: How long to wait in any case.

        Returns:
            None, or what is unsent and why, in words.
        """
        began_s = time.monotonic()
        self._ending.set()
        for lane in (self._store, self._files):
            lane.next_try_s = min(lane.next_try_s, began_s)
        self._signal.set()
        try:
            while self._unsent() and self._worker.is_alive() and time.monotonic() - began_s < at_most_s:
                if any(self._hopeless(lane, began_s, patience_s) for lane in (self._store, self._files)):
                    break
                time.sleep(0.02)
        finally:
            self._stopped.set()
            self._signal.set()
            if self._unsent():
                _LEFT.setdefault(self._place, self._worker)
        self._spool.tidy()
        return self._describe_unsent()

    def _queue(self, operation: Operation) -> None:
        self._lane(operation).queue.append(operation)
        self._signal.set()

    def _lane(self, operation: Operation) -> Lane:
        return self._files if operation.kind in FILES_LANE else self._store

    def _unsent(self) -> int:
        return len(self._store.queue) + len(self._files.queue)

    @staticmethod
    def _hopeless(lane: Lane, began_s: float, patience_s: float) -> bool:
        waited_s = time.monotonic() - max(began_s, lane.last_sent_s)
        return bool(lane.queue) and lane.failures > 0 and waited_s >= patience_s

    def _describe_unsent(self) -> str | None:
        kinds = [operation.kind for lane in (self._store, self._files) for operation in tuple(lane.queue)]
        if not kinds:
            return None
        names = {"points": "logged step", "scores": "result", "image": "image", "file": "file", "text": "text"}
        counts = {name: kinds.count(kind) for kind, name in names.items() if kind in kinds}
        counted = [f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts.items()]
        reason = self._store.reason if self._store.failures else self._files.reason if self._files.failures else ""
        return f"{', '.join(counted) or 'the status of the run'} ({reason or 'no time left'})"

    def _work(self) -> None:
        if (before := _LEFT.get(self._place)) is not None:
            self._wait_for(before)
        while not self._stopped.is_set():
            self._signal.wait(self._pause_s())
            self._signal.clear()
            self._ending.wait(GATHER_S)  # points gather meanwhile; at the end there is nothing to wait for
            for lane in (self._store, self._files):
                self._drain(lane)

    def _wait_for(self, before: threading.Thread) -> None:
        """The last thing it does may be to make the run, and two at once would make two."""
        self._store.failures, self._store.reason = 1, "what was sent before is still on its way"
        while before.is_alive():
            if self._stopped.wait(0.02):
                return
        self._store.failures = 0
        _LEFT.pop(self._place, None)

    def _ready(self, lane: Lane) -> bool:
        """Whether a lane has something that may go: files once there is a run, the status when nothing else waits."""
        if not lane.queue or self._stopped.is_set():
            return False
        if lane is self._files:
            return self._opened
        return lane.queue[0].kind != "status" or not self._files.queue or self._files.failures > 0

    def _pause_s(self) -> float | None:
        waits_s = [lane.next_try_s - time.monotonic() for lane in (self._store, self._files) if self._ready(lane)]
        return max(0.0, min(waits_s)) if waits_s else None

    def _drain(self, lane: Lane) -> None:
        while self._ready(lane) and time.monotonic() >= lane.next_try_s:
            operations = lane.head()
            was_down = lane.failures > 0
            try:
                if wanted := [one for one in operations if not one.was_sent]:
                    self._send(wanted)
            except Refused as error:
                self._refused(lane, operations, error)
            except Exception as error:  # whatever a store or its client raises: training goes on, and we try again
                lane.failed(error, self._ending.is_set())
                self._report_down(lane)
            else:
                self._opened = self._opened or operations[0].kind == "open"
                self._done(lane, operations)
                if was_down:
                    log.info("MLflow at %s answers again", self._where)

    def _refused(self, lane: Lane, operations: Sequence[Operation], error: Refused) -> None:
        if len(operations) > 1:  # find the one at fault, so that its neighbours arrive
            lane.batch = 1
            return
        log.warning("MLflow takes no %s: %s", operations[0].kind, masked(str(error)))
        self._done(lane, operations)

    def _done(self, lane: Lane, operations: Sequence[Operation]) -> None:
        for operation in operations:
            self._spool.remove(operation)
        lane.sent(operations)

    def _report_down(self, lane: Lane) -> None:
        if lane.failures == 1:
            what = "takes no files" if lane is self._files else "does not answer"
            log.warning(
                "MLflow at %s %s (%s): the run goes on, nothing is lost, it is tried again",
                self._where,
                what,
                lane.reason,
            )
