"""A group of which every rank holds a part: each writes its own, and any number of ranks reads them.

torch.distributed.checkpoint through its safetensors storage: one file a rank, which says where in the whole each of its
pieces begins. No pickle: that storage leaves no `.metadata`.
"""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from .layout import SUFFIX, Tensors

T = TypeVar("T")
KNOWN = inspect.signature(HuggingFaceStorageWriter).parameters
EACH_ITS_OWN = "save_distributed" if "save_distributed" in KNOWN else "save_sharded"  # torch 2.8 calls it so


def write(folder: Path, group: Tensors, ranks: dist.ProcessGroup) -> list[Path]:
    """Write this rank's part; called on all ranks together.

    Args:
        folder: Of the group.
        group: The tensors; a plain one is the same on every rank, and one rank writes it.
        ranks: Those that write, to agree through; on the CPU.

    Returns:
        The files that this rank has written.

    Raises:
        OSError: On all ranks: one could not write.
    """
    writer = HuggingFaceStorageWriter(str(folder), **{EACH_ITS_OWN: True})  # type: ignore[arg-type]
    with _as_it_was(" (rank {})"):
        save(dict(group), storage_writer=writer, process_group=ranks)
    return sorted(folder.glob(f"shard-{dist.get_rank(ranks) + 1:05d}-*{SUFFIX}"))


def everyones(work: Callable[[], T], ranks: dist.ProcessGroup) -> list[T]:
    """What ``work()`` gives on each rank, on every rank; a disk that refuses it on one is everybody's trouble.

    Args:
        work: Done on all ranks at once; gives small plain data.
        ranks: They exchange it; on the CPU.

    Raises:
        OSError: On all ranks; the text says which rank could not.
    """
    try:
        mine: T | OSError = work()
    except OSError as error:
        mine = error
    every: list[T | OSError] = [mine] * dist.get_world_size(ranks)
    dist.all_gather_object(every, mine, ranks)
    for rank, one in enumerate(every):
        if isinstance(one, OSError):
            raise OSError(f"{one} (rank {rank})")
    return every  # type: ignore[return-value]


def read_into(folder: Path, targets: Tensors) -> None:
    """Fill tensors of this rank, whole ones or parts, from shards; each rank for itself.

    Args:
        folder: Of the group.
        targets: Of the shapes that were written.
    """
    with warnings.catch_warnings(), _as_it_was():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # each rank for itself
        load(dict(targets), storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)


def shapes(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Shape and type of each whole tensor, by name."""
    described = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    kept = {name: one for name, one in described.items() if isinstance(one, TensorStorageMetadata)}
    return {name: (one.size, one.properties.dtype) for name, one in kept.items()}


def read_whole(folder: Path) -> dict[str, Tensor]:
    """All tensors, put together, on the CPU."""
    tensors = {name: torch.empty(shape, dtype=dtype) for name, (shape, dtype) in sorted(shapes(folder).items())}
    read_into(folder, tensors)
    return tensors


def mesh_on_host(ranks: dist.ProcessGroup) -> DeviceMesh:
    """The ranks of a group on the CPU, as parts on the host are told of them; once is enough for all parts."""
    return DeviceMesh.from_group(ranks, "cpu")


def on_host(part: Tensor, like: DTensor, mesh: DeviceMesh) -> DTensor:
    """A copy of this rank's part in the host's memory, as a part of the same whole.

    Args:
        part: The copy.
        like: What it is a copy of; split over all ranks along one axis.
        mesh: What `mesh_on_host` makes of those ranks.
    """
    return DTensor.from_local(part, mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride())


@contextlib.contextmanager
def _as_it_was(where: str = "") -> Iterator[None]:
    """What torch wraps, in an error that is no `Exception`, as the first rank that failed has met it.

    Args:
        where: Added to what the system refuses, with the number of that rank.
    """
    try:
        yield
    except CheckpointException as error:
        rank = min(error.failures)
        failure = error.failures[rank][0]
        raise (OSError(f"{failure}{where.format(rank)}") if isinstance(failure, OSError) else failure) from error
