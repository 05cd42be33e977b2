"""What metrics have seen of a reference, kept from one evaluation to the next: sums, or rows of features.

A file is known by what its numbers depend on: the metric's `reference_key`, the fingerprint of the images, and the code
and the device that computed them; not by the size of the batches, which moves last bits. `files.cache` sees to it that
it is whole, or not there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core import Metric
from ...files.cache import Kept, cache_folder, keep, kept
from ..world import World
from .origins import libraries, origins
from .protocol import computed
from .streams import Stream

WHAT = "reference"
LINE = 64  # bytes; each state starts on one
States = dict[str, Tensor]
Key = dict[str, Any]


def key_of(metric: Metric, stream: Stream, world: World) -> Key | None:
    """What the states of a pass of ``metric`` over ``stream`` depend on; None where they are not to be kept."""
    fingerprint = stream.fingerprint()
    if fingerprint is None or "model" in metric.needs or not metric.reference_key():
        return None
    made_by = origins(metric)
    if made_by is None:
        return None
    return {
        "metric": metric.reference_key(),
        "states": states_of(metric),
        "images": len(stream),
        "fingerprint": fingerprint,
        "made_by": made_by,
        "libraries": libraries(metric),
        "device": _machine(world),
        **computed(world.device),
    }


def states_of(metric: Metric) -> dict[str, list[Any]]:
    """Which states there are, what becomes of them, their type and the shape of a row."""
    found = {name: (how, getattr(metric, name)) for name, how in metric.states().items()}
    return {
        name: [how, str(value.dtype), list(value.shape[1:] if how == "cat" else value.shape)]
        for name, (how, value) in found.items()
    }


def read(key: Key, world: World) -> States | None:
    """The states that are kept for ``key``, on this rank's device, indexes on the CPU; None where there are none."""
    found = kept(_path(key))
    if found is None or found.head.get("key") != json.loads(json.dumps(key)):
        return None
    indexes = {f"{name}_index" for name in key["states"]}
    device = world.device
    states = {row["name"]: _tensor(found, row) for row in found.head["states"]}
    return {name: value if name in indexes else value.to(device) for name, value in states.items()}


def write(key: Key, states: States, about: str) -> None:
    """Keep states; where that cannot be, a warning says so.

    Args:
        key: What they depend on.
        states: By name, those of ``cat`` states with their index.
        about: What a list of the cache says of them.
    """
    rows, start = [], 0
    for name, value in states.items():
        rows.append({"name": name, "dtype": str(value.dtype), "shape": list(value.shape), "start": start})
        start += _lined(value.numel() * value.element_size())
    keep(_path(key), {"what": WHAT, "of": about, "key": key, "states": rows}, _pieces(states))


def _path(key: Key) -> Path:
    return cache_folder(WHAT) / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]


def _machine(world: World) -> str:
    return torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else world.device.type


def _tensor(found: Kept, row: Mapping[str, Any]) -> Tensor:
    dtype: torch.dtype = getattr(torch, row["dtype"].removeprefix("torch."))
    length = int(np.prod(row["shape"], dtype=np.int64)) * dtype.itemsize
    part = found.body[row["start"] : row["start"] + length]
    if not length:
        return torch.zeros(row["shape"], dtype=dtype)
    return torch.from_numpy(part.copy()).view(dtype).reshape(row["shape"])


def _pieces(states: States) -> Iterator[memoryview | bytes]:
    for value in states.values():
        flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        yield flat.data
        yield bytes(_lined(flat.nbytes) - flat.nbytes)


def _lined(length: int) -> int:
    return -(-length // LINE) * LINE
