"""Which way the images take: by what the data set has, and by how much of it there is."""

from __future__ import annotations

import torch

from ...core import Dataset
from ...files.threads import cores
from ...files.words import told_size
from ...registry.recipe_types import Loading
from ..launching import find_place
from .host import Host, gather_from
from .resident import Resident, bytes_of
from .source import GIB, Source
from .streamed import Streamed

MOST_WORKERS = 8  # of one rank; more are a recipe's to ask for


def source_of(dataset: Dataset, device: torch.device, loading: Loading | None = None) -> Source:
    """The images of a data set.

    On the device where they have tensors within ``loading.device_gib``, in the host's memory where those are larger,
    and read by workers where there are none.

    Args:
        dataset: Whose.
        device: Where they go.
        loading: The recipe's; None is its defaults.
    """
    loading = loading or Loading()
    held = dataset.tensors()
    if held is None:
        workers = auto_workers() if loading.workers == "auto" else loading.workers
        return Streamed(dataset, device, workers, loading.ahead)
    images, cond = held
    size = bytes_of(images, cond)
    if size <= loading.device_gib * GIB:
        return Resident(images, cond, device)
    return Host(gather_from(images, cond), len(images), device, loading.ahead, f"in memory ({told_size(size)})")


def auto_workers() -> int:
    """One for each core that this rank has, less the one that trains; at least 1, at most `MOST_WORKERS`."""
    return min(max(cores() // find_place().local_size - 1, 1), MOST_WORKERS)
