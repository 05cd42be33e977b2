"""Rows in the host's memory or in mapped files, gathered by a thread ahead of the step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from .moving import moved, rows_there
from .source import Rows, Source


class Host(Source):
    """Rows that a function gathers on the host.

    Args:
        gather: Gives the rows of some numbers, int64 (b,), on the CPU; called by one thread beside the caller's.
        count: Number of rows.
        device: Where they go.
        ahead: Batches that are gathered before they are asked for.
        where: Where the rows lie, in a few words.
    """

    def __init__(
        self, gather: Callable[[Tensor], Rows], count: int, device: torch.device, ahead: int, where: str = "in memory"
    ) -> None:
        self.gather, self.count, self.device, self.ahead, self.where = gather, count, device, ahead, where

    def __len__(self) -> int:
        return self.count

    def take(self, numbers: Tensor) -> Rows:
        """Gathered now."""
        return rows_there(self.gather(numbers), self.device)

    def stream(self, order: Iterable[Tensor]) -> Generator[Rows]:
        """Gathered ahead."""
        return moved(self._gathered(order), self.device)

    def about(self) -> str:
        """Where, and how far ahead."""
        return f"{self.where}, gathered {self.ahead} batches ahead"

    def _gathered(self, order: Iterable[Tensor]) -> Generator[Rows]:
        waiting: deque[Future[Rows]] = deque()
        with ThreadPoolExecutor(1, "dmf-feed") as pool:
            try:
                for numbers in order:
                    waiting.append(pool.submit(self._gather, numbers))
                    if len(waiting) > self.ahead:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for one in waiting:
                    one.cancel()

    def _gather(self, numbers: Tensor) -> Rows:
        values, cond = self.gather(numbers)
        if self.device.type != "cuda":
            return values, cond
        with torch.cuda.device(self.device):  # a thread starts on GPU 0, and pinning would take memory there
            return values.pin_memory(), {name: value.pin_memory() for name, value in cond.items()}


def gather_from(values: Tensor, cond: Mapping[str, Tensor]) -> Callable[[Tensor], Rows]:
    """The function that gathers rows of tensors on the CPU; they may be mapped files (``torch.from_numpy(memmap)``)."""

    def gather(numbers: Tensor) -> Rows:
        return values.index_select(0, numbers), {name: one.index_select(0, numbers) for name, one in cond.items()}

    return gather
