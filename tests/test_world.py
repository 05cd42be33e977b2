"""How long ranks wait for each other: `distributed.timeout_s`, in whatever group they do."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import distribute_tensor

from dmf.registry.recipe_types import Checkpoint
from dmf.runner.checkpoints import Saver
from dmf.runner.training.stops import Stops
from dmf.runner.world import World, join

CPU = torch.device("cpu")


@pytest.fixture
def one_rank() -> Iterator[None]:
    """A process group of this process alone, of torch's own patience."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def waits_s(group: object) -> float:
    assert isinstance(group, dist.ProcessGroup)
    patience: float = group._get_backend(CPU).options._timeout.total_seconds()
    return patience


def test_the_recipe_says_how_long_a_rank_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    place = SimpleNamespace(rank=0, local_rank=0, size=2, local_size=2, launcher="torchrun")
    begun: list[dict[str, object]] = []
    monkeypatch.setattr("dmf.runner.world.find_place", lambda: place)
    monkeypatch.setattr("dmf.runner.world.store_of", lambda place, timeout_s: None)
    monkeypatch.setattr("torch.distributed.init_process_group", lambda backend, **words: begun.append(words))
    assert join("cpu", 7).timeout_s == begun[0]["timeout"].total_seconds() == 7  # type: ignore[attr-defined]


def test_so_it_does_in_groups_of_our_own(one_rank: None, tmp_path: Path) -> None:
    gpus = World(0, 2, torch.device("cuda"), timeout_s=7)
    assert waits_s(Stops(gpus, SimpleNamespace(requested=0))._group) == 7  # type: ignore[arg-type]
    parts = {"w": distribute_tensor(torch.ones(2), init_device_mesh("cpu", (1,)))}
    with Saver(tmp_path, World(0, 1, CPU, timeout_s=9), Checkpoint(), lambda step, path: None) as saver:
        saver.save(1, {"model": parts}, {})
        assert waits_s(saver._ranks) == 9
