"""Rows that are read item by item, by worker processes ahead of the step: torch's DataLoader."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import multiprocessing.context
import pickle
import signal
import sys
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ...core import Dataset
from ...registry import UserError
from .moving import moved, rows_there
from .reader import Failure, Reader, as_is, begin_worker, read_rows
from .source import Rows, Source

# never fork: threads and CUDA do not survive it; a fork server has loaded torch once, its children start in a moment
START = "forkserver" if sys.platform == "linux" else "spawn"
QUIET = (signal.SIGINT, signal.SIGTERM)
DEATH_KNOWN_S = 5.0


class Streamed(Source):
    """Rows of a data set without tensors.

    Args:
        dataset: Read by `Dataset.rows`; with workers it is pickled.
        device: Where they go.
        workers: Processes that read; 0 reads in this one, when a batch is asked for.
        ahead: Batches that are read before they are asked for, at least one by each worker.
    """

    def __init__(self, dataset: Dataset, device: torch.device, workers: int, ahead: int) -> None:
        self.dataset, self.device, self.workers = dataset, device, workers
        self.each_ahead = math.ceil(ahead / max(workers, 1))

    def __len__(self) -> int:
        return len(self.dataset)

    def take(self, numbers: Tensor) -> Rows:
        """Read now, in this process."""
        return rows_there(read_rows(self.dataset, numbers.tolist()), self.device)

    def stream(self, order: Iterable[Tensor]) -> Generator[Rows]:
        """Read ahead by the workers, given in the order that they are asked for."""
        return moved(self._read(order), self.device) if self.workers else super().stream(order)

    def about(self) -> str:
        """By how many workers, and how far ahead."""
        if not self.workers:
            return "read one by one, without workers"
        many = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        return f"read by {many}, {self.workers * self.each_ahead} batches ahead"

    def _read(self, order: Iterable[Tensor]) -> Generator[Rows]:
        before = multiprocessing.active_children()
        with _deaf(), _no_advice():
            found: Iterator[list[Any] | Failure] = iter(self._loader(order))
        workers = [one for one in multiprocessing.active_children() if one not in before]
        try:
            while (batch := _next(found, workers)) is not None:
                if isinstance(batch, Exception):
                    raise batch
                yield batch
        finally:
            del found  # tells the workers to end; nothing else may hold it, no traceback either
            _see_off(workers)

    def _loader(self, order: Iterable[Tensor]) -> DataLoader[Any]:
        return DataLoader(
            Reader(_packed(self.dataset)),
            batch_sampler=(numbers.tolist() for numbers in order),
            num_workers=self.workers,
            collate_fn=as_is,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=begin_worker,
            prefetch_factor=self.each_ahead,
            multiprocessing_context=_context(self.dataset),
            generator=torch.Generator(),  # or it draws from the global one
        )


def _packed(dataset: Dataset) -> bytes:
    """The data set, for the workers.

    Raises:
        UserError: It cannot be pickled.
    """
    try:
        return pickle.dumps(dataset)
    except Exception as error:  # whatever its own parts raise
        raise UserError(
            f"the data set {type(dataset).__name__} cannot be sent to worker processes ({error}); write "
            "loading.workers: 0, which reads its images in the training process, or make it picklable"
        ) from error


def _context(dataset: Dataset) -> multiprocessing.context.BaseContext:
    context = multiprocessing.get_context(START)
    if START == "forkserver":
        context.set_forkserver_preload([Reader.__module__, type(dataset).__module__])
    return context


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """What is started here never hears of Ctrl-C or SIGTERM, which go to the whole group: the trainer ends its workers.

    They block the signals from their first moment on; this process only puts them off.
    """
    resource_tracker.ensure_running()  # or that is started in here, and takes the block away
    before = signal.pthread_sigmask(signal.SIG_BLOCK, QUIET)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _no_advice() -> Iterator[None]:
    """Without torch's warning of more workers than cores: how many there are is the recipe's to say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _next(found: Iterator[list[Any] | Failure], workers: Sequence[BaseProcess]) -> Rows | Exception | None:
    """The next batch, or why there is none: an image cannot be read, a worker was killed; None after the last."""
    try:
        batch = next(found, None)
    except (RuntimeError, OSError, EOFError) as error:  # a pipe that breaks off may be seen before the death is known
        return _death_of(workers) or error
    if batch is None:
        return None
    if isinstance(batch, Failure):
        return batch.error()
    images, cond = batch
    return images, cond


def _see_off(workers: Sequence[BaseProcess]) -> None:
    """Kill who has not ended in the DataLoader's 5 s, in the middle of a long read: it is deaf to its SIGTERM too."""
    for one in workers:
        if one.is_alive():
            one.kill()
            one.join()


def _death_of(workers: Sequence[BaseProcess]) -> UserError | None:
    """What to say of a worker that has ended by itself; None where none has."""
    wait([one.sentinel for one in workers], DEATH_KNOWN_S)
    codes = [one.exitcode for one in workers if one.exitcode]
    if not codes:
        return None
    how = f"was killed by {signal.Signals(-codes[0]).name}" if codes[0] < 0 else f"ended with exit code {codes[0]}"
    return UserError(
        f"a worker process that reads the images {how}. SIGKILL most often means that memory ran out, SIGBUS that "
        "/dev/shm is full (docker run --shm-size). Write a smaller loading.workers or loading.ahead; checkpoints are "
        "kept, and the same command goes on from the newest"
    )
