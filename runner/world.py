"""The processes of a run: who am I, how many are we, and the few things that we say to each other.

Distribution is torch's own: its elastic launcher (torchrun, or `--ranks` and its kin), srun or mpirun starts the
processes, this joins them.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import pickle
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import Store  # type: ignore[attr-defined]

from ..registry import UserError
from .launching import bound_gpus, find_place
from .launching.store import store_of
from .signals import Interrupted

T = TypeVar("T")
ROWS = 8192  # that are sent at a time
TIMEOUT_S = 1800.0  # that a rank waits for another; rank 0 alone makes sheets of samples, and the others wait
FIRST_SPEAKS_S = 5.0  # that a rank waits for rank 0 to say the mistake that it has itself come upon
HEARD_S = 1.0  # that rank 0 then waits for the others to come upon it


class LocalError(UserError):
    """A user's mistake that this rank alone sees, such as a file that no other reads: it says so itself."""


@dataclass(frozen=True)
class World:
    """One process's place.

    Attributes:
        rank: 0 ... size - 1; rank 0 writes and logs.
        size: Number of processes.
        device: Where this one computes.
        timeout_s: How long it waits for another.
        store: Where ranks leave each other notes; None for a process alone.
    """

    rank: int
    size: int
    device: torch.device
    timeout_s: float = TIMEOUT_S
    store: Store | None = field(default=None, compare=False, repr=False)

    @property
    def first(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def share_of(self, total: int) -> slice:
        """This rank's part of a global batch that divides evenly."""
        part = total // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def group_on_host(self) -> dist.ProcessGroup:
        """A group of all ranks for itself, which exchanges through the host's memory; made by all of them together."""
        patience = timedelta(seconds=self.timeout_s)  # torch would take 30 minutes, whatever the first group was given
        group: dist.ProcessGroup = dist.new_group(backend="gloo", timeout=patience)  # type: ignore[assignment]
        return group

    def barrier(self) -> None:
        """Wait for all."""
        if self.size > 1:
            dist.barrier()

    def sum(self, value: Tensor) -> Tensor:
        """The sum over ranks, on every rank."""
        return self._reduced(value, dist.ReduceOp.SUM)

    def max(self, value: Tensor) -> Tensor:
        """The largest over ranks, on every rank."""
        return self._reduced(value, dist.ReduceOp.MAX)

    def min(self, value: Tensor) -> Tensor:
        """The smallest over ranks, on every rank."""
        return self._reduced(value, dist.ReduceOp.MIN)

    def reduced_on_first(self, value: Tensor, how: Literal["sum", "min", "max"]) -> Tensor:
        """The sum, or the extreme, over ranks, in memory of its own; on rank 0, elsewhere nothing of use."""
        out = value.to(self.device, copy=True)
        if self.size > 1:
            dist.reduce(out, 0, {"sum": dist.ReduceOp.SUM, "min": dist.ReduceOp.MIN, "max": dist.ReduceOp.MAX}[how])
        return out

    def send_rows(self, rows: Tensor) -> None:
        """Send (n, ...) rows to rank 0, which takes them with `received_rows`."""
        for start in range(0, len(rows), ROWS):
            dist.send(rows[start : start + ROWS].to(self.device).contiguous(), 0)

    def received_rows(self, rank: int, count: int, like: Tensor) -> Iterator[Tensor]:
        """The ``count`` rows that a rank sends, some at a time: (n, ...), each like a row of ``like``."""
        for start in range(0, count, ROWS):
            part = like.new_empty(min(ROWS, count - start), *like.shape[1:], device=self.device)
            dist.recv(part, rank)
            yield part

    def _reduced(self, value: Tensor, how: dist.ReduceOp.RedOpType) -> Tensor:
        if self.size == 1:
            return value
        out = value.to(self.device, copy=True)
        dist.all_reduce(out, how)
        return out

    def gather_rows(self, rows: Tensor) -> list[Tensor]:
        """Every rank's (n_r, ...) rows; the n_r may differ."""
        if self.size == 1:
            return [rows]
        rows = rows.to(self.device)
        counts = [torch.zeros((), dtype=torch.int64, device=self.device) for _ in range(self.size)]
        dist.all_gather(counts, torch.tensor(len(rows), device=self.device))
        longest = max(int(n) for n in counts)
        padded = torch.cat([rows, rows.new_zeros(longest - len(rows), *rows.shape[1:])])
        parts = [torch.zeros_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return [part[: int(n)] for part, n in zip(parts, counts, strict=True)]

    def first_alone(self, work: Callable[[], T]) -> T:
        """``work()``, on rank 0 first, then on the others: a download is made once, a user's mistake is everybody's."""
        if self.size == 1:
            return work()
        made = self.first_only(work)
        return made if made is not None else work()

    def first_only(self, work: Callable[[], T]) -> T | None:
        """``work()`` on rank 0, while the others wait; None there.

        A user's mistake, or a request to stop, is raised on every rank: nobody is left waiting.
        """
        if self.size == 1:
            return work()
        made, trouble = None, None
        if self.first:
            try:
                made = work()
            except (UserError, Interrupted) as error:
                trouble = error
        told = self.tell((type(trouble).__name__, trouble.args) if trouble else None)
        if trouble is not None:
            self._will_say(trouble)
            raise trouble
        if told is not None:
            raise Interrupted(*told[1]) if told[0] == "Interrupted" else UserError(*told[1])
        return made

    def together(self, work: Callable[[], T]) -> T:
        """``work()`` on every rank at once; a user's mistake that one finds is raised on all: nobody waits in vain."""
        if self.size == 1:
            return work()
        trouble: UserError | None = None
        try:
            made = work()
        except UserError as error:
            trouble = error
        if self.max(torch.tensor(int(trouble is not None))):
            mine = torch.frombuffer(bytearray(pickle.dumps(trouble)), dtype=torch.uint8)
            found = [pickle.loads(bytes(rows.tolist())) for rows in self.gather_rows(mine)]
            shared = trouble or next(one for one in found if one is not None)
            self._will_say(shared)
            raise UserError(*shared.args) if isinstance(shared, LocalError) else shared  # now all know, and one says it
        return made

    def speaks(self, sentence: str) -> bool:
        """Whether this rank is the one to say what is wrong: rank 0; another if that does not come upon it as well.

        Nobody knows of a mistake whether each rank meets it, as of a wrong option, or one alone, as of a file that its
        machine lacks: so rank 0 notes what it says, and who finds no note after a moment speaks.
        """
        if self.store is None:
            return self.first
        note = _note(sentence)
        if self.first:
            self._will_say(sentence)
            return True
        until = time.monotonic() + FIRST_SPEAKS_S
        try:
            while not self.store.check([f"said-{note}"]):  # `wait` would write to the screen of what did not come
                if time.monotonic() > until:
                    return bool(self.store.add(f"taken-{note}", 1) == 1)  # one speaks for all that are not rank 0
                time.sleep(0.02)
            self.store.add(f"heard-{note}", 1)
        except RuntimeError:  # rank 0 has ended, and the store with it
            return True  # better twice than not at all
        return False

    def _will_say(self, sentence: object) -> None:
        """Note on rank 0 that it says so: at once, for it may have to close a run before it comes to that."""
        if self.store is not None and self.first:
            self.store.set(f"said-{_note(str(sentence))}", "")

    def stay_to_be_heard(self, sentence: str) -> None:
        """Rank 0, with which the store ends, stays until the others have read its note; a moment, if they ask for none.

        Args:
            sentence: What it has said, by `speaks`.
        """
        if self.store is None or not self.first:
            return
        until, note = time.monotonic() + HEARD_S, _note(sentence)
        while self.store.add(f"heard-{note}", 0) < self.size - 1 and time.monotonic() < until:
            time.sleep(0.02)

    def tell(self, value: Any) -> Any:
        """Rank 0's ``value``, on every rank; small plain data."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]


def join(device: str, timeout_s: float = TIMEOUT_S) -> World:
    """Join the processes that a launcher has started; alone without one.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        timeout_s: How long a rank waits for another before the run ends with an error.

    Raises:
        UserError: ``cuda`` where there is none, more ranks than GPUs, or a launcher that says what cannot be.
    """
    place = find_place()
    where = _device(device, place.local_rank)
    if where.type == "cuda" and place.local_size > max(torch.cuda.device_count(), bound_gpus(place.launcher)):
        raise UserError(
            f"{place.local_size} ranks, but this machine has {torch.cuda.device_count()} GPU(s), and each rank needs "
            "its own; start fewer ranks, or write device=cpu"
        )
    store = None
    if place.size > 1 and not dist.is_initialized():
        backend = "nccl" if where.type == "cuda" else "gloo"
        store, patience = store_of(place, timeout_s), timedelta(seconds=timeout_s)
        dist.init_process_group(backend, store=store, rank=place.rank, world_size=place.size, timeout=patience)
    return World(place.rank, place.size, where, timeout_s, store)


def why_lost(error: RuntimeError, timeout_s: float) -> str | None:
    """Why an exchange between ranks failed, if that is what failed; empty where another rank ended and says why."""
    text = str(error)
    if re.search(r"gloo.*((closed|reset) by peer|Broken pipe)", text, re.DOTALL):
        return ""
    if isinstance(error, (dist.DistNetworkError, dist.DistStoreError)) or re.search(
        r"gloo.*Timed out", text, re.DOTALL
    ):
        return f"another rank did not answer in {timeout_s:g} s, which is distributed.timeout_s"
    if isinstance(error, dist.DistError) or re.search(r"gloo.*(connect|unreachable|No route)", text, re.DOTALL):
        return f"ranks could not exchange data: {text.strip().splitlines()[0]}"
    return None


def leave() -> None:
    """Take leave of the others: all that holds the process group goes first, or its threads outlive the interpreter."""
    if _met():
        gc.collect()  # DDP sits in a reference cycle
        dist.destroy_process_group()


def waits_in_leaving() -> bool:
    """Whether `leave` waits for the other ranks, and so for ever after an error that they may know nothing of.

    With NCCL it does. `destroy_process_group` comes to ``ProcessGroupNCCL::shutdown``, which since torch 2.6 (read in
    2.8 and 2.15) flushes: ``ncclCommFinalize`` lets the exchanges that have begun come to their end, and a blocking
    communicator, as ours are, has no time limit there. The others sit in an exchange that this rank never joins, until
    their watchdogs end them after ``distributed.timeout_s``. gloo closes its connections and waits for nobody.
    """
    return _met() and dist.get_backend() == "nccl"


def end_at_once(code: int) -> NoReturn:
    """End this process as it is, where `leave` would wait; the launcher then ends the other ranks.

    The system takes back what a process had on a GPU and in the network. torch's own way out is none here:
    `_abort_process_group`, and the end of the interpreter as well, wait for ``ncclCommAbort`` in a thread as long as
    ``distributed.timeout_s``, and that call may itself wait for the others.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _note(sentence: str) -> str:
    return hashlib.sha256(sentence.encode()).hexdigest()


def _met() -> bool:
    return dist.is_available() and dist.is_initialized()


def _device(name: str, local_rank: int) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda, but torch finds no CUDA device here; write `device=cpu` or `device=auto`")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device
