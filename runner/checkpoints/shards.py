"""A group of which every rank holds a part: each writes its own, and any number of ranks reads them.

torch.distributed.checkpoint through its safetensors storage: one file a rank, which says where in the whole each of its
pieces begins. No pickle: that storage leaves no `.metadata`.
"""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from .layout import SUFFIX, Tensors

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
    """
    writer = HuggingFaceStorageWriter(str(folder), **{EACH_ITS_OWN: True})  # type: ignore[arg-type]
    save(dict(group), storage_writer=writer, process_group=ranks)
    return sorted(folder.glob(f"shard-{dist.get_rank(ranks) + 1:05d}-*{SUFFIX}"))


def read_into(folder: Path, targets: Tensors) -> None:
    """Fill tensors of this rank, whole ones or parts, from shards; each rank for itself.

    Args:
        folder: Of the group.
        targets: Of the shapes that were written.
    """
    with warnings.catch_warnings():
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
