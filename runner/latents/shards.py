"""A shard: the moments of some images in a row and their conditions, in one kept file (`files.cache`).

It holds a checksum of each image too. Images are read in random order: the checksum of a whole file would have all
files read before the first few batches.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...files.cache import Damaged, keep, open_kept

Tensors = Mapping[str, Tensor]
ALIGNED = 64  # bytes: where each tensor starts
SUMS = "sums"  # the checksums: int64 (n,)


def summed(tensors: Tensors) -> dict[str, Tensor]:
    """The tensors of a shard with the checksums of its images, which are the rows of each."""
    count = len(next(iter(tensors.values())))
    return {**tensors, SUMS: torch.tensor([_sum(tensors, place) for place in range(count)], dtype=torch.int64)}


def fits(tensors: Tensors, place: int) -> bool:
    """Whether an image of a shard is as it was written."""
    return _sum(tensors, place) == int(tensors[SUMS][place])


def write_shard(path: Path, tensors: Tensors, key: str, first: int) -> bool:
    """Keep a shard; False, and a warning, where that is not possible.

    Args:
        path: Of the shard.
        tensors: By name, on the CPU.
        key: Of the cache.
        first: Number of the first image.
    """
    return keep(path, _head(tensors, key, first), _body(tensors))


def open_shard(path: Path, like: Tensors, key: str, first: int) -> dict[str, Tensor] | None:
    """The tensors of a shard, mapped: its length and its head are checked, and of its images nothing is read yet.

    Args:
        path: Of the shard.
        like: What it should hold: tensors of the same shapes and types, without values.
        key: Of the cache.
        first: Number of the first image.

    Returns:
        The tensors by name; None where there is no file.

    Raises:
        Damaged: It is, or it is another one.
        OSError: It cannot be read just now.
    """
    try:
        found = open_kept(path)
    except FileNotFoundError:
        return None
    if found.head != _head(like, key, first):
        raise Damaged("of another cache, or of another place in it")
    tensors, start = {}, 0
    for name, one in sorted(like.items()):
        flat = torch.from_numpy(found.body[start : start + one.nbytes])
        tensors[name] = flat.view(one.dtype).view(one.shape)
        start += _aligned(one.nbytes)
    return tensors


def _sum(tensors: Tensors, place: int) -> int:
    found = 0
    for name, one in sorted(tensors.items()):
        if name != SUMS:
            found = zlib.crc32(_bytes(one[place]), found)
    return found


def _head(tensors: Tensors, key: str, first: int) -> dict[str, Any]:
    forms = {name: [str(one.dtype), *one.shape] for name, one in sorted(tensors.items())}
    return {"key": key, "first": first, "tensors": forms}


def _body(tensors: Tensors) -> Iterator[memoryview | bytes]:
    for _, one in sorted(tensors.items()):
        yield _bytes(one)
        yield bytes(_aligned(one.nbytes) - one.nbytes)


def _bytes(one: Tensor) -> memoryview:
    return np.ascontiguousarray(one.numpy()).reshape(-1).view(np.uint8).data


def _aligned(length: int) -> int:
    return -(-length // ALIGNED) * ALIGNED
