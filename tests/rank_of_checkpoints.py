"""What ranks do whose tensors are in parts, for tests of their checkpoints."""

import errno
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
import torch.distributed as dist
from fork_kit import _command as command
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from dmf.registry import UserError
from dmf.registry.recipe_types import Checkpoint
from dmf.runner import checkpoints
from dmf.runner.checkpoints import saver as module
from dmf.runner.checkpoints import shards
from dmf.runner.training.trainer import Trainer
from dmf.runner.trouble import CannotWrite
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


def fill_the_disk(most: int = 8) -> None:
    """This process writes no file of more than a few bytes from here on."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


def refuse_to_flush() -> None:
    """What the network's file system says only then."""

    def digested(*given: object) -> dict[str, str]:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    module.digested = digested  # type: ignore[attr-defined]


def cannot_save(world: World, folder: Path, asynchronous: bool, trouble: Callable[[], None], on: int) -> None:
    """The first checkpoint is written; of the second one rank cannot, and every rank hears so before the third."""
    saved: list[int] = []
    next_steps = 0
    limit, digested = resource.getrlimit(resource.RLIMIT_FSIZE), module.digested  # type: ignore[attr-defined]
    saver = checkpoints.Saver(folder, world, Checkpoint(asynchronous=asynchronous), lambda step, _: saved.append(step))
    saver.save(1, parts(1), {})
    saver.finish()
    if world.rank == on:
        trouble()
    try:
        with pytest.raises(CannotWrite) as told:
            saver.save(2, parts(2), {})
            assert asynchronous
            while saver._writing is not None and saver._writing.is_alive():
                time.sleep(0.01)
            saver.poll()
            next_steps += 1
            saver.save(3, parts(3), {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        module.digested = digested  # type: ignore[attr-defined]
    assert f"(rank {on}); the checkpoints before it are kept. Make room" in str(told.value)
    assert next_steps == (asynchronous and not world.first)  # rank 0 says it, so it ends first
    saver.finish()
    assert saved == ([1] if world.first else []) and checkpoints.steps(folder) == [1]


def cannot_save_in_any_way(world: World, folder: Path) -> None:
    for trouble in (fill_the_disk, refuse_to_flush):
        for asynchronous in (False, True):
            for on in (0, 1):
                own = folder / f"{trouble.__name__}-{asynchronous}-{on}"
                own.mkdir(exist_ok=True)
                cannot_save(world, own, asynchronous, trouble, on)
                dist.barrier()


def trains_until_the_disk_is_full(words: list[str], screen: str) -> None:
    """A command in whose seventh step the disk of rank 1 fills up."""
    taken = Trainer.step

    def step(self: Trainer) -> None:
        taken(self)
        if self.state.step == 7 and self.world.rank == 1:
            self.saver.finish()
            fill_the_disk(16384)  # what is said on the screen stays below

    Trainer.step = step  # type: ignore[method-assign]
    command(words, screen)
