"""Micro-batches: the same gradient however the share is cut, exchanged once a step; the size that fits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY
from fork_kit import on_ranks
from torch.distributed import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from training_kit import apart, trainer, weights

from dmf.registry import UserError
from dmf.runner.training import fitting_memory
from dmf.runner.training.fitting_memory import fitted, largest
from dmf.runner.training.micro_batches import Fitted
from dmf.runner.training.trainer import Trainer
from dmf.runner.world import World

Command = Callable[..., tuple[int, str, str]]
ALONE = World(0, 1, torch.device("cpu"))
STEPS = 3


def test_the_gradient_is_that_of_the_mean_over_all_images(tiny: Path) -> None:
    """However the 24 images are cut, also where the last piece is smaller, and where one piece would hold more."""
    with trainer(tiny) as one:
        step, learner = one.take_step, one.state.learner
        drawn = step.draws(one.feed.batch(0), 0)
        loss = learner(*drawn).mean()
        want = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(learner.parameters()))])
        for size in (1, 5, 12, 23, 24, 100):
            one.state.optimizer.zero_grad()
            step.micro_batch = size
            mean = step._gradients(drawn)
            got = torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])
            assert apart(got, want) < 1e-6, size
            assert float(mean) == pytest.approx(float(loss.detach()), rel=1e-6)


def test_a_run_may_go_on_with_another_size(tiny: Path, dmf_command: Command) -> None:
    said = dmf_command("train", tiny, "train.steps=6", "train.micro_batch=10")[1]
    assert "3 micro-batches of at most 10" in said
    said = dmf_command("train", tiny, "train.steps=8", "train.micro_batch=500")[1]
    assert "a step: fp32, " in said and "no micro-batches of 500, for a rank's share is 24 images\n" in said
    assert dmf_command("train", tiny, "train.micro_batch=auto")[0] == 0
    assert dmf_command("train", tiny, "name=plain")[0] == 0
    losses = [
        [json.loads(line)["values"]["loss"] for line in (tiny.parent / f"runs/{name}/history.jsonl").open()]
        for name in ("tiny", "plain")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


class Bad:
    """Losses of which a rank's second piece is not finite, though its gradient is."""

    def __init__(self, inner: Any, here: bool) -> None:
        self.inner, self.here, self.seen = inner, here, 0

    def __call__(self, *given: Any) -> torch.Tensor:
        self.seen += 1
        losses: torch.Tensor = self.inner(*given)
        return losses + float("inf") if self.here and self.seen == 2 else losses


def on_rank(world: World, folder: Path) -> None:
    """What is seen of some steps in pieces, in files."""
    calls: list[int] = []

    def counted(state: Any, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
        calls.append(1)
        return allreduce_hook(state, bucket)

    def exchanges(one: Trainer) -> int:
        calls.clear()
        for _ in range(STEPS):
            one.step()
        return len(calls)

    found: dict[str, Any] = {}
    with trainer(folder / "tiny.yaml", "train.micro_batch=5", rank=world.rank, ranks=world.size) as one:
        step = one.take_step
        inner: Any = step.losses
        inner.register_comm_hook(None, counted)
        found["exchanges"] = exchanges(one)
        torch.save(weights(one), folder / f"cut-{world.rank}.pt")
        step.micro_batch = 12
        found["uncut"] = exchanges(one)
        step.micro_batch = 5
        before, step.losses = weights(one), Bad(inner, world.rank == 1)
        step.strategy.alone = lambda losses: inner.no_sync()  # type: ignore[method-assign]
        one.step()
        found["bad"] = [one.state.guard.counts()[0], torch.equal(weights(one), before)]
    (folder / f"found-{world.rank}.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks found."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "tiny.yaml").write_text(TINY)
    on_ranks(2, on_rank, folder)
    return folder


def found(two: Path) -> list[dict[str, Any]]:
    return [json.loads((two / f"found-{rank}.json").read_text()) for rank in range(2)]


def test_gradients_are_exchanged_once_a_step(two: Path) -> None:
    """As often with three pieces a rank as with one; the network is one bucket."""
    assert [one["exchanges"] for one in found(two)] == [one["uncut"] for one in found(two)] == [STEPS, STEPS]


def test_two_ranks_in_pieces_are_one_rank_in_one_piece(two: Path, tiny: Path) -> None:
    cut = [torch.load(two / f"cut-{rank}.pt") for rank in range(2)]
    assert torch.equal(*cut)
    with trainer(tiny) as one:
        for _ in range(STEPS):
            one.step()
        assert apart(cut[0], weights(one)) < 1e-5


def test_a_piece_that_is_not_finite_is_everybodys(two: Path) -> None:
    assert [one["bad"] for one in found(two)] == [[1, True], [1, True]]


class Memory:
    """A device with so much memory, of which an image takes so much."""

    def __init__(self, room: int, fixed: int, each: int, above: int = 10**9) -> None:
        self.room, self.fixed, self.each, self.above, self.tried = room, fixed, each, above, list[int]()

    def __call__(self, size: int) -> int | None:
        self.tried.append(size)
        wanted = self.fixed + self.each * size * (2 if size > self.above else 1)
        return wanted if wanted <= self.room else None


def test_the_largest_pieces_that_fit_are_of_one_size() -> None:
    memory = Memory(room=1000, fixed=100, each=9)
    assert largest(memory, 900, 256, ALONE) == 86  # 88 would fit, and of 3 pieces 86 is the largest
    assert memory.tried == [16, 32, 86]


def test_what_fits_whole_is_not_cut() -> None:
    assert largest(Memory(10**9, 5, 1), 10**9, 256, ALONE) == 256
    assert largest(Memory(10**9, 5, 1), 10**9, 1, ALONE) == 1


def test_out_of_memory_halves_the_size() -> None:
    assert largest(Memory(1000, 100, 9, above=60), 900, 256, ALONE) == 43  # the line was wrong from 60 on
    assert largest(Memory(100, 10, 30), 90, 256, ALONE) == 2
    with pytest.raises(UserError, match="not even one image fits"):
        largest(Memory(100, 10, 95), 90, 64, ALONE)


def test_a_trial_that_passes_is_held_against_the_room() -> None:
    """While it runs the optimizer has no moments: more is free than the training will have."""
    memory = Memory(room=4000, fixed=100, each=10, above=40)
    assert largest(memory, 1100, 256, ALONE) == 43
    assert memory.tried == [16, 32, 86, 43]  # 86 took 1820
    assert largest(Memory(4000, 100, 10), 200, 256, ALONE) == 10  # neither of the first two was within the room
    assert largest(Memory(4000, 100, 10), 50, 256, ALONE) == 1  # it has passed, and nothing is smaller


class Unlike(World):
    """This rank has room, another has half of it."""

    def min(self, value: torch.Tensor) -> torch.Tensor:
        return value // 2


def test_ranks_hold_it_against_the_least_room() -> None:
    assert largest(Memory(10**9, 100, 10), 2200, 256, Unlike(0, 2, torch.device("cpu"))) == 86


def test_a_resumed_run_takes_the_size_that_it_had(monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "H100")
    monkeypatch.setattr(fitting_memory, "largest", lambda *given: 7)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**30, 2**30))
    for name in ("memory_reserved", "memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda device: 0)
    gpu = World(0, 1, torch.device("cuda"))
    with trainer(tiny) as one:
        state = one.state
        assert fitted(lambda size: None, 24, state, gpu) == Fitted(7, 24, "H100")
        for before, want in {
            Fitted(9, 24, "H100"): 9,
            Fitted(9, 12, "H100"): 7,
            Fitted(9, 24, "A100"): 7,
        }.items():
            state.fitted = before
            assert fitted(lambda size: None, 24, state, gpu).images == want


def test_the_size_that_was_found_is_in_the_checkpoint(tiny: Path, dmf_command: Command) -> None:
    assert "auto takes a CPU's whole share, 24 images" in dmf_command("train", tiny, "train.micro_batch=auto")[1]
    state = json.loads((tiny.parent / "runs/tiny/checkpoints/step-00000012/state.json").read_text())
    assert state["micro_batch"] == {"images": 24, "share": 24, "device": "cpu"}
