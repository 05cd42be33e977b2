"""What goes another way on GPUs, as far as a machine without one can tell."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from conftest import TINY
from fork_kit import on_ranks
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from training_kit import trainer

from dmf.runner.facts import devices
from dmf.runner.training import Trainer, fitting_memory
from dmf.runner.training.fitting_memory import upwards
from dmf.runner.training.strategies import ddp
from dmf.runner.world import LocalError, World


class BesideA100(World):
    """Rank 0 of two; the other has an A100."""

    def gather_rows(self, rows: Tensor) -> list[Tensor]:
        return [rows, torch.frombuffer(bytearray(b"A100"), dtype=torch.uint8)]


ALONE, GPU = World(0, 1, torch.device("cpu")), World(0, 1, torch.device("cuda", 0))


class OnGpu(DistributedDataParallel):
    """It believes what it is told of the device, as it does on one."""

    def __init__(self, module: nn.Module, device_ids: list[int] | None = None, **more: Any) -> None:
        super().__init__(module, **more)
        self.device_ids = device_ids


def ready_on_gpus(world: World, one: Trainer) -> None:
    """DDP that knows its device copies what it is called with, and cannot be called with nothing."""
    with patch.object(ddp, "DistributedDataParallel", OnGpu):
        ddp.DDP(replace(world, device=GPU.device)).wrap(one.state.learner)


def nothing_left(one: Trainer) -> None:
    """FSDP keeps gradients that are not exchanged beside the weights, where zero_grad does not see them."""
    step, weights = one.take_step, list(one.state.learner.parameters())
    drawn = step.draws(one.feed.batch(0), 0)
    share = step.micro_batch

    def gradient() -> Tensor:
        one.state.optimizer.zero_grad(set_to_none=True)
        step._gradients(drawn)
        whole = [weight.grad.full_tensor() for weight in weights if isinstance(weight.grad, DTensor)]
        assert len(whole) == len(weights)
        return torch.cat([grad.flatten() for grad in whole])

    for pieces in (share, 5):
        step.micro_batch = pieces
        want = gradient()
        for size in (5, share):
            one.state.optimizer.zero_grad(set_to_none=True)
            step._try(drawn, size)
            assert all(weight.grad is None for weight in weights)
            assert torch.equal(gradient(), want), (pieces, size)


def on_rank(world: World, folder: Path) -> None:
    for name, work in {"ddp": lambda one: ready_on_gpus(world, one), "fsdp": nothing_left}.items():
        words = (f"name={name}", f"distributed.strategy={name}")
        with trainer(folder / "tiny.yaml", *words, rank=world.rank, ranks=world.size) as one:
            work(one)


def test_ddp_is_made_ready_and_a_trial_in_shards_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    on_ranks(2, on_rank, tmp_path)


class Memory:
    """A device of which an image takes so much, and that must not be filled up."""

    def __init__(self, size: int, fixed: int, each: int, above: int = 10**9) -> None:
        self.size, self.fixed, self.each, self.above, self.tried = size, fixed, each, above, list[int]()

    def __call__(self, images: int) -> int:
        self.tried.append(images)
        wanted = self.fixed + self.each * images * (2 if images > self.above else 1)
        assert wanted <= self.size, f"ran out of memory with {images} images"
        return wanted


def test_where_ranks_wait_for_one_another_none_runs_out() -> None:
    memory = Memory(1000, fixed=100, each=9)
    assert upwards(memory, 900, 256, ALONE) == 86  # 88 would fit, and of 3 pieces 86 is the largest
    assert memory.tried == [1, 2, 4, 8, 16, 32, 64, 86]
    assert upwards(Memory(1300, 100, 9, above=60), 900, 256, ALONE) == 32  # 64 took more than the line had said
    assert upwards(Memory(1700, 100, 9, above=80), 900, 256, ALONE) == 64  # and so did 86
    assert upwards(Memory(10**9, 5, 1), 10**9, 250, ALONE) == 250
    assert upwards(Memory(1000, 950, 1), 900, 250, ALONE) == 1
    assert upwards(Memory(10**9, 5, 1), 10**9, 1, ALONE) == 1


def test_a_rank_that_runs_out_all_the_same_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def trial(size: int) -> None:
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    with pytest.raises(LocalError, match="ran out of memory in a trial of 2 images; write"):
        fitting_memory._surely(trial, 2, GPU)


@pytest.mark.parametrize(("together", "how"), [(False, "largest"), (True, "upwards")])
def test_trials_go_upwards_where_ranks_wait(
    monkeypatch: pytest.MonkeyPatch, tiny: Path, together: bool, how: str
) -> None:
    told = {"get_device_name": "H100", "mem_get_info": (2**30, 2**30), "memory_reserved": 0, "memory_allocated": 0}
    for name, value in told.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    for name in ("largest", "upwards"):
        monkeypatch.setattr(fitting_memory, name, lambda *given, name=name: 7 if name == how else 0)
    with trainer(tiny) as one:
        found = fitting_memory.fitted(lambda size: None, 24, one.state, GPU, together)
    assert found.images == 7


@pytest.mark.parametrize(("here", "fact"), [("A100", "A100"), ("H100", "A100, H100")])
def test_unlike_gpus_of_one_run_are_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, here: str, fact: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: here)
    monkeypatch.setattr(logging.getLogger("dmf"), "propagate", True)
    assert devices(BesideA100(0, 2, torch.device("cuda", 0))) == fact
    assert ("GPUs of several models, A100 and H100:" in caplog.text) is ("," in fact)
