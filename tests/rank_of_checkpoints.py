"""What ranks do whose tensors are in parts, for tests of their checkpoints."""

import time
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from dmf.registry import UserError
from dmf.registry.recipe_types import Checkpoint
from dmf.runner import checkpoints
from dmf.runner.checkpoints import shards
from dmf.runner.world import World

Groups = dict[str, dict[str, Tensor]]


def whole(step: int) -> Groups:
    """The tensors of a step: axes that do not divide, one that leaves a rank without a part, plain ones, a tied one."""
    drawn = torch.Generator().manual_seed(step)
    model = {"a.weight": torch.randn(7, 3, generator=drawn), "b": torch.randn(1, generator=drawn)}
    moments = {f"exp_avg/{name}": value.half() for name, value in model.items()} | {"step/b": torch.tensor(float(step))}
    tied = {"tied": model["a.weight"], "tied.b": model["b"]}
    return {"model": model | tied, "optimizer": moments, "objective": {"c": torch.ones(2)}}


def parts(step: int) -> Groups:
    mesh, groups = init_device_mesh("cpu", (dist.get_world_size(),)), whole(step)
    for group in ("model", "optimizer"):
        for name, value in groups[group].items():
            if value.ndim:
                groups[group][name] = distribute_tensor(value, mesh, [Shard(0)], src_data_rank=None)
    groups["model"] |= {"tied": groups["model"]["a.weight"], "tied.b": groups["model"]["b"]}
    return groups


def same(one: Tensor, two: Tensor) -> bool:
    one = one.full_tensor() if isinstance(one, DTensor) else one
    return torch.equal(one, two) and one.dtype == two.dtype


def restores(path: Path) -> None:
    """Read a checkpoint of any number of ranks, in parts and whole."""
    step = checkpoints.load(path, ()).step
    for group, tensors in parts(0).items():
        checkpoints.restore_into(path, group, tensors)
        assert all(same(value, whole(step)[group][name]) for name, value in tensors.items()), group
    for group, tensors in checkpoints.load(path).tensors.items():
        assert all(same(value, whole(step)[group][name]) for name, value in tensors.items()), group


def saves(folder: Path, world: World, asynchronous: bool) -> None:
    folder.mkdir(exist_ok=True)
    saved: list[int] = []
    meshes = Mock(wraps=shards.mesh_on_host)
    shards.mesh_on_host = meshes
    options = Checkpoint(keep=3, asynchronous=asynchronous)
    with checkpoints.Saver(folder, world, options, lambda step, path: saved.append(step)) as saver:
        groups = parts(1)
        saver.save(1, groups, {})
        for value in (v for name in ("model", "optimizer") for v in groups[name].values()):
            value.zero_()  # training goes on
        saver.save(2, parts(2), {})
    assert saved == ([1, 2] if world.first else [])
    assert meshes.call_count == asynchronous  # of all tensors and checkpoints together
    dist.barrier()
    for step in (1, 2):
        restores(checkpoints.place(folder, step))


def saves_both(world: World, folder: Path) -> None:
    """Two checkpoints, waiting for the disk and not, each read again; and one of one rank is read."""
    saves(folder / "waited", world, False)
    saves(folder / "aside", world, True)
    restores(folder / "one" / "step-00000004")


def saves_until_killed(world: World, folder: Path) -> None:
    with checkpoints.Saver(folder, world, Checkpoint(asynchronous=True), lambda step, path: None) as saver:
        for step in range(1, 100_000):
            saver.save(step, parts(step), {})


def saves_with_a_slow_rank(world: World, folder: Path) -> None:
    """Rank 1 looks late whether the files of all are there; rank 0 may not have renamed their folder by then."""
    gather = dist.all_gather_object
    late = {0: 0.0, 1: 0.3}[world.rank]

    def slowly(*given: object) -> None:
        gather(*given)
        time.sleep(late)

    dist.all_gather_object = slowly
    try:
        saver = checkpoints.Saver(folder, world, Checkpoint(), lambda step, path: None)
        saver.save(1, parts(1), {})
    finally:
        dist.all_gather_object = gather


def saves_in_a_folder_of_its_own(world: World, folder: Path) -> None:
    """What a folder of runs that is not shared comes to: every rank says so, none is left waiting."""
    own = folder / str(world.rank)
    (own / ".tmp-00000001").mkdir(parents=True)
    saver = checkpoints.Saver(own, world, Checkpoint(), lambda step, path: None)
    with pytest.raises(UserError, match=r"not the same folder on every machine \(.* is not there for rank 0\)"):
        saver.save(1, parts(1), {})
