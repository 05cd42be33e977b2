"""The order of the images: a pure function of (seed, images seen), the same for any number of ranks and workers.

Each epoch is a fresh permutation; batches run over the end of an epoch into the next, so no image is dropped. Any
place of the endless row is found at the cost of one permutation: a run that goes on reads none of the earlier images.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ...core import generator


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, count: int) -> Tensor:
    """The permutation of epoch ``epoch``, (count,)."""
    return torch.randperm(count, generator=generator(seed, "order", epoch))


def image_numbers(seed: int, count: int, start: int, length: int) -> Tensor:
    """Which images come at places ``start`` ... ``start + length - 1`` of the endless row of epochs, (length,)."""
    parts = []
    while length > 0:
        epoch, place = divmod(start, count)
        taken = epoch_order(seed, epoch, count)[place : place + length]
        parts.append(taken)
        start, length = start + len(taken), length - len(taken)
    return parts[0] if len(parts) == 1 else torch.cat(parts)
