"""How long ranks wait for each other, `distributed.timeout_s`, in whatever group they do; who says what is wrong."""

import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from importlib import import_module as module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from fork_kit import on_ranks as on_forked
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import distribute_tensor

from dmf.core import SamplingError
from dmf.registry import UserError
from dmf.registry.recipe_types import Checkpoint
from dmf.runner.checkpoints import Saver
from dmf.runner.commands.on_ranks import on_ranks
from dmf.runner.generate import Generator
from dmf.runner.training.stops import Stops
from dmf.runner.world import World, join, leave

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


def mistake(sentence: str) -> None:
    raise UserError(sentence)


def stuck() -> None:
    """A batch that an adaptive sampler gives up, on the rank that has it."""

    def course(walk: object) -> torch.Tensor:
        raise SamplingError("a sampler on rank 1")

    model = SimpleNamespace(denoiser=lambda network: network)
    maker = Generator(model, torch.nn.Identity(), None, CPU, course=course)  # type: ignore[arg-type]
    maker.prepared = lambda *given: None  # type: ignore[assignment, method-assign, return-value]
    maker.batch(0, [0], {})


MISTAKES: dict[str, tuple[Callable[[World], object], set[int]]] = {  # with the ranks of which one says it
    "met by all": (lambda world: mistake("met by all"), {0}),
    "met by rank 1": (lambda world: world.rank == 1 and mistake("met by rank 1"), {1}),
    "not to rank 0": (lambda world: world.first_alone(lambda: world.first or mistake("not to rank 0")), {1, 2}),
    "of rank 0, told to all": (lambda world: world.first_only(lambda: mistake("of rank 0, told to all")), {0}),
    "a sampler on rank 1": (lambda world: world.rank == 1 and stuck(), {1}),
}


def all_mistakes(world: World, folder: Path) -> None:
    """Each as the work of a command, which a rank either says or leaves to another."""
    leave()
    module("dmf.runner.commands.on_ranks").OTHERS_FIRST_S = module("dmf.runner.world").FIRST_SPEAKS_S = 0.5  # type: ignore[attr-defined]
    for number, (work, _) in enumerate(MISTAKES.values()):

        def and_meet(world: World, work: Callable[[World], object] = work) -> None:
            work(world)
            world.barrier()

        with contextlib.redirect_stderr(io.StringIO()) as said:
            code = on_ranks("cpu", and_meet, 60)
        (folder / f"{number}-{world.rank}").write_text(f"{code} {said.getvalue().strip()}")


def test_a_mistake_is_said_once_whichever_rank_meets_it(tmp_path: Path) -> None:
    on_forked(3, all_mistakes, tmp_path)
    for number, (sentence, (_, who)) in enumerate(MISTAKES.items()):
        told = [(tmp_path / f"{number}-{rank}").read_text() for rank in range(3)]
        said = [rank for rank, one in enumerate(told) if one.startswith("2 error: ") and one.endswith(sentence)]
        assert len(said) == 1 and said[0] in who, told
        assert all(one[0] in "12" for one in told), told  # nobody takes it for a success


def test_one_rank_speaks_for_all_that_are_not_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmf.runner.world.FIRST_SPEAKS_S", 0.05)
    notes = dist.HashStore()
    others = [World(rank, 3, CPU, store=notes) for rank in (1, 2)]
    assert [world.speaks("the weights are not on this machine") for world in others] == [True, False]


def test_the_first_stays_until_the_others_have_read_its_note(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store ends with it, and a rank that finds none says the same once more."""
    monkeypatch.setattr("dmf.runner.world.HEARD_S", 20.0)
    notes = dist.HashStore()
    first, *others = [World(rank, 3, CPU, store=notes) for rank in range(3)]
    assert first.speaks("the recipe is wrong")
    left = threading.Thread(target=first.stay_to_be_heard, args=("the recipe is wrong",))
    left.start()
    assert not others[0].speaks("the recipe is wrong")
    left.join(0.2)
    assert left.is_alive(), "one has not heard it yet"
    assert not others[1].speaks("the recipe is wrong")
    left.join(5)
    assert not left.is_alive()
    monkeypatch.setattr("dmf.runner.world.HEARD_S", 0.05)
    first.stay_to_be_heard("what comes upon it alone")  # does not wait for ever
