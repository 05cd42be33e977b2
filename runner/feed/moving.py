"""From the host to the device, without waiting for what the device still has to do."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from contextlib import closing

import torch
from torch import Tensor

from .source import Rows


def there(value: Tensor, device: torch.device) -> Tensor:
    """On the device. To a GPU from pinned memory alone: a copy from any other waits."""
    if device.type == "cuda" and value.device.type == "cpu" and not value.is_pinned():
        value = value.pin_memory()
    return value.to(device, non_blocking=True)


def rows_there(rows: Rows, device: torch.device) -> Rows:
    """All of some rows on the device."""
    return there(rows[0], device), {name: there(value, device) for name, value in rows[1].items()}


def moved(rows: Generator[Rows], device: torch.device) -> Generator[Rows]:
    """Rows of the host on the device; to a GPU the next are on their way while the present ones are worked on."""
    with closing(rows):
        if device.type == "cuda":
            yield from _beside(rows, device)
        else:
            for found in rows:
                yield rows_there(found, device)


def _beside(rows: Generator[Rows], device: torch.device) -> Generator[Rows]:
    """Copies on a CUDA stream of their own, one batch ahead."""
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    under_way: deque[tuple[Rows, torch.cuda.Event]] = deque()
    for found in rows:
        with torch.cuda.stream(side):
            under_way.append((rows_there(found, device), side.record_event()))
        if len(under_way) > 1:
            yield _arrived(*under_way.popleft())
    while under_way:
        yield _arrived(*under_way.popleft())


def _arrived(rows: Rows, copied: torch.cuda.Event) -> Rows:
    """Rows for the stream that computes: it waits for the copy, and their memory is not given away under it."""
    now = torch.cuda.current_stream(rows[0].device)
    now.wait_event(copied)
    for value in (rows[0], *rows[1].values()):
        value.record_stream(now)
    return rows
