"""What a training takes on each rank: counted from a network without memory, and held against real shards."""

import functools
import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from backbones_kit import SMALL
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from dmf.core import DataSpec
from dmf.registry import Recipe, UserError, load, read
from dmf.runner.assemble import build_model
from dmf.runner.training import memory
from dmf.runner.training.learner import learner_of
from dmf.runner.training.memory import GIB, Footprint, check_memory, free_bytes, trained
from dmf.runner.training.state import fresh
from dmf.runner.training.strategies import DDP, FSDP, Single, fsdp
from dmf.runner.world import World

Command = Callable[..., tuple[int, str, str]]
LATENTS = DataSpec((4, 32, 32), tuple(map(str, range(1000))))
PIXELS = DataSpec((3, 8, 8), ("a", "b", "c"))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def xl() -> Footprint:
    recipe = read("imagenet256_dit_xl2")
    return Footprint(recipe, trained(recipe, LATENTS))


@pytest.fixture
def pretended() -> Iterator[Callable[[int], World]]:
    """Makes this process rank 0 of many that are not there."""

    def join(ranks: int) -> World:
        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=ranks)
        return World(0, ranks, CPU)

    yield join
    dist.destroy_process_group()


def local(values: list[Any]) -> int:
    """Bytes on this rank."""
    held = [value.to_local() if isinstance(value, DTensor) else value for value in values]
    return sum(value.numel() * value.element_size() for value in held)


def lasting(estimate: memory.Memory) -> tuple[int, int, int, int]:
    """What `counted` counts."""
    return estimate.weights, estimate.gradients, estimate.optimizer, estimate.averages


def counted(recipe: Recipe, spec: DataSpec, world: World) -> tuple[int, int, int, int]:
    """(weights, gradients, optimizer, averages) of rank 0, of tensors that are really there, but for their memory."""
    module = trained(recipe, spec).backbone
    strategy = FSDP(world)
    strategy.place(module)
    averages = [strategy.copy(module) for _ in recipe.train.ema]
    weights = list(module.parameters())
    optimizer = torch.optim.AdamW(weights, foreach=False)  # the fused one wants a device
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    state: list[Tensor] = [value for values in optimizer.state.values() for value in values.values()]
    kept: list[list[Any]] = [[*n.parameters(), *n.buffers()] for n in averages]
    return (
        local([*weights, *module.buffers()]),
        local([weight.grad for weight in weights]),
        local(state),
        sum(map(local, kept)),
    )


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_a_rank_holds_its_part_of_dit_xl(xl: Footprint, pretended: Callable[[int], World], ranks: int) -> None:
    whole, held = xl.on(Single, 1), counted(xl.recipe, LATENTS, pretended(ranks))
    assert sum(held) == pytest.approx(whole.total / ranks, rel=0.1)
    estimate = xl.on(FSDP, ranks)
    assert lasting(estimate) == pytest.approx(held, rel=0.01)


def test_dit_xl_on_one_rank(xl: Footprint) -> None:
    numbers = 674_816_272  # without the fixed positions, a buffer
    one = xl.on(Single, 1)
    assert one.gradients == 4 * numbers and one.weights == one.averages == 4 * (numbers + 256 * 1152)
    assert one.optimizer == pytest.approx(8 * numbers, rel=1e-6)
    assert xl.on(DDP, 8) == one  # whole on each rank
    assert str(one).startswith("12.57 GiB (weights 2.51 GiB, gradients 2.51 GiB, optimizer 5.03 GiB, averages 2.5")


@pytest.mark.parametrize("name", SMALL)
def test_a_rank_holds_its_part_of_every_backbone(tiny: Path, pretended: Callable[[int], World], name: str) -> None:
    """Small networks, whose parts are rounded up to rows: the estimate is the count, on rank 0 exactly."""
    options = ", ".join(f"{key}: {value}" for key, value in SMALL[name].items())
    recipe = read(tiny, [f"backbone={{name: {name}, {options}}}", "train.ema=[0.9, 0.99]"])
    held = counted(recipe, PIXELS, pretended(3))
    assert lasting(Footprint(recipe, trained(recipe, PIXELS)).on(FSDP, 3)) == pytest.approx(held, rel=1e-3)


def test_weights_and_averages_are_never_whole_twice(
    tiny: Path, pretended: Callable[[int], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start of four ranks: as each block is split, and at the end."""
    recipe = read(tiny, ["backbone.hidden=128", "train.ema=[0.9, 0.99, 0.999]", "distributed.strategy=fsdp"])
    world, before, seen = pretended(4), tensors(), []
    model = build_model(recipe, PIXELS)
    learner = learner_of(recipe, model, "fp32")
    whole = sum(weight.nbytes for weight in learner.parameters())
    split = fsdp.fully_shard

    def spied(*given: Any, **options: Any) -> Any:
        seen.append(sum(size for place, size in tensors().items() if place not in before))
        return split(*given, **options)

    monkeypatch.setattr(fsdp, "fully_shard", spied)
    state = fresh(recipe, learner, FSDP(world), "fp32")
    assert len(seen) > 2 and max(seen) < 1.3 * whole
    assert sum(size for place, size in tensors().items() if place not in before) < 1.3 * whole  # 4 of 4
    # and what they begin with are the recipe's weights
    drawn = dict(build_model(recipe, PIXELS).backbone.named_parameters())
    for network in (learner.backbone, *(one.network for one in state.averages)):
        for name, held in network.named_parameters():
            assert isinstance(held, DTensor) and torch.equal(held.to_local(), drawn[name].chunk(4)[0]), name
    assert not any(weight.requires_grad for one in state.averages for weight in one.network.parameters())


def tensors() -> dict[int, int]:
    """Bytes of each piece of memory that tensors hold here, by its place."""
    gc.collect()
    plain = [o for o in gc.get_objects() if isinstance(o, Tensor) and not isinstance(o, (DTensor, FakeTensor))]
    places = [o.untyped_storage() for o in plain if o.device.type == "cpu" and o.layout is torch.strided]
    return {place.data_ptr(): place.nbytes() for place in places if place.nbytes()}


def test_a_whole_network_for_images_is_counted(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, quiet = read(tiny, ["preview.every=6"]), read(tiny)
    loud, silent = (Footprint(one, trained(one, PIXELS)) for one in (recipe, quiet))
    weights = silent.on(Single, 1).averages
    assert silent.on(FSDP, 8).whole == 0 and loud.on(FSDP, 8).whole == weights
    assert loud.on(DDP, 8) == silent.on(DDP, 8)  # whole as it is
    gradients = silent.on(FSDP, 8).gradients
    assert loud.on(FSDP, 8).total == silent.on(FSDP, 8).total - gradients + weights
    assert "no gradients, but a whole network, " in str(loud.on(FSDP, 8))
    for key in ("preview.start=100", "preview.every=0"):
        other = read(tiny, ["preview.every=6", key])
        assert not memory.makes_images(other)
    # too much for any number of ranks, but for those that make none
    monkeypatch.setattr(memory, "free_bytes", lambda device: weights + 1000)
    monkeypatch.setattr(World, "together", lambda self, work: work())
    with pytest.raises(UserError, match=r"fsdp, make no images while it trains \(preview\.every: 0, .* 6 ranks"):
        check_memory(recipe, World(0, 2, CPU), PIXELS)


def test_on_a_cpu_a_rank_has_all_weights_at_first(tiny: Path) -> None:
    recipe = read(tiny)
    footprint = Footprint(recipe, trained(recipe, PIXELS))
    alone = footprint.on(Single, 1, "cpu")
    assert footprint.on(FSDP, 12, "cpu").total == alone.weights
    assert footprint.on(FSDP, 12).total < alone.weights
    assert "at the start all weights, " in str(footprint.on(FSDP, 12, "cpu"))


def test_images_that_no_rank_can_make_are_told_of(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = read(tiny, ["distributed.strategy=fsdp"])
    footprint, told = Footprint(recipe, trained(recipe, PIXELS)), []
    monkeypatch.setattr(memory, "free_bytes", lambda device: footprint.image_maker - 1)
    monkeypatch.setattr(memory.log, "warning", lambda text, *values: told.append(text % values))
    monkeypatch.setattr(World, "together", lambda self, work: None)
    check_memory(recipe, World(0, 12, CPU), PIXELS)
    assert len(told) == 1 and "neither sampled nor scored" in told[0]


def test_what_is_frozen_has_no_gradient_and_no_state(tiny: Path) -> None:
    all_of_it, part = (
        Footprint(recipe, trained(recipe, PIXELS)).on(Single, 1)
        for recipe in (read(tiny), read(tiny, ["train.freeze=[layers]"]))
    )
    assert part.weights == all_of_it.weights and part.averages == all_of_it.averages
    assert 0 < part.gradients < all_of_it.gradients / 2 and 0 < part.optimizer < all_of_it.optimizer / 2


def test_gradients_of_micro_batches_lie_beside_those_that_are_exchanged(tiny: Path) -> None:
    recipe = read(tiny, ["train.micro_batch=4"])
    footprint = Footprint(recipe, trained(recipe, PIXELS))
    whole = footprint.on(Single, 1).gradients
    assert footprint.on(DDP, 2).gradients == 2 * whole
    assert footprint.on(DDP, 6).gradients == whole  # a share is one micro-batch
    assert whole * 1.5 <= footprint.on(FSDP, 2).gradients < whole * 1.6


def test_too_large_a_training_is_refused_before_anything_is_made(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[nn.Module] = []
    dit = load_of("dit")
    start = dit.__init__

    @functools.wraps(start)  # its options are read from it
    def spied(self: nn.Module, *given: Any, **options: Any) -> None:
        start(self, *given, **options)
        made.append(self)

    monkeypatch.setattr(dit, "__init__", spied)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1_000_000)
    code, _, err = dmf_command("run", tiny, "backbone.hidden=64")
    assert code == 2 and "Traceback" not in err
    assert "training dit takes 3.5 MiB (weights 0.7 MiB, gradients" in err and "and 1.0 MiB are free there" in err
    assert "write distributed.strategy: fsdp and take 4 ranks with as much each, which need 0.9 MiB" in err
    assert [next(one.parameters()).device.type for one in made] == ["meta"]


def test_ranks_that_have_too_little_are_told_how_many_would_do(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = read(tiny, ["distributed.strategy=fsdp"])
    monkeypatch.setattr(
        memory, "free_bytes", lambda device: Footprint(recipe, trained(recipe, PIXELS)).on(FSDP, 6, "cpu").total
    )
    monkeypatch.setattr(World, "together", lambda self, work: work())
    with pytest.raises(UserError, match=r"on the cpu of each rank, .* distributed\.strategy: fsdp and take 6 ranks"):
        check_memory(recipe, World(0, 2, CPU), PIXELS)
    check_memory(recipe, World(0, 6, CPU), PIXELS)


def load_of(name: str) -> Any:
    from dmf.registry import find

    return load(find("backbone", name))


def test_a_gpu_says_what_it_has_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5 * GIB, 8 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: GIB)
    assert free_bytes(torch.device("cuda", 0)) == 6 * GIB


def test_a_network_that_cannot_be_built_without_weights_is_trained_all_the_same(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dit = load_of("dit")
    monkeypatch.setattr(dit, "_initialise", lambda self: float(next(self.parameters()).sum()))
    told: list[str] = []
    monkeypatch.setattr(memory.log, "info", lambda text, *values: told.append(text % values))
    check_memory(read(tiny), World(0, 1, CPU), PIXELS)
    assert len(told) == 1 and told[0].startswith("memory: not known beforehand")


def test_a_mistake_of_the_user_is_no_unknown_memory(tiny: Path) -> None:
    with pytest.raises(UserError, match=r"train\.freeze: 'nothing\.\*' is the name of no weight"):
        check_memory(read(tiny, ["train.freeze=['nothing.*']"]), World(0, 1, CPU), PIXELS)
