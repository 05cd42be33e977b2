"""A shard: the moments of some images in a row and their conditions, in one kept file (`files.cache`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...files.cache import keep, kept
from ..console import log

Tensors = Mapping[str, Tensor]
ALIGNED = 64  # bytes: where each tensor starts


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
    """The tensors of a shard, mapped: every byte is checked now, and read again when it is looked at.

    Args:
        path: Of the shard.
        like: What it should hold: tensors of the same shapes and types, without values.
        key: Of the cache.
        first: Number of the first image.

    Returns:
        The tensors by name; None where there is no file, and where it is another or damaged, which the log tells.
    """
    found = kept(path)
    if found is None:
        return None
    if found.head != _head(like, key, first):
        log.warning("%s is of another cache, or of another place in it, and is made anew", path)
        return None
    tensors, start = {}, 0
    for name, one in sorted(like.items()):
        flat = torch.from_numpy(found.body[start : start + one.nbytes])
        tensors[name] = flat.view(one.dtype).view(one.shape)
        start += _aligned(one.nbytes)
    return tensors


def _head(tensors: Tensors, key: str, first: int) -> dict[str, Any]:
    forms = {name: [str(one.dtype), *one.shape] for name, one in sorted(tensors.items())}
    return {"key": key, "first": first, "tensors": forms}


def _body(tensors: Tensors) -> Iterator[memoryview | bytes]:
    for _, one in sorted(tensors.items()):
        yield np.ascontiguousarray(one.numpy()).reshape(-1).view(np.uint8).data
        yield bytes(_aligned(one.nbytes) - one.nbytes)


def _aligned(length: int) -> int:
    return -(-length // ALIGNED) * ALIGNED
