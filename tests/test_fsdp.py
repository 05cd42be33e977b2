"""FSDP and DDP train as one rank alone does, whatever the network looks like; each test's ranks check it themselves."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from backbones_kit import SMALL
from conftest import FULL
from fork_kit import on_ranks
from strategies_kit import ALONE, Trained, lively, train
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from dmf.core import Backbone, checkpoint_activations
from dmf.core.objectives import Attempt, l2
from dmf.plugins.backbones.dit import DiT
from dmf.registry import UserError
from dmf.runner.world import World


def assert_alike(one: Trained, other: Trained, most: float = 1e-5) -> None:
    assert other.losses == pytest.approx(one.losses, rel=most)
    assert other.norms == pytest.approx(one.norms, rel=most)
    a, b = one.whole(), other.whole()
    assert a.shape == b.shape and float((a - b).norm()) < 10 * most * float(a.norm())


def as_one(world: World) -> None:
    """Every built-in backbone on FSDP; on DDP, which does not look into a network, one with buffers and one without."""
    steps = 4 if FULL else 2
    for name in SMALL:
        one = train(ALONE, lively(name), steps=steps)
        for strategy in ("ddp", "fsdp") if FULL or name in ("dit", "unet") else ("fsdp",):
            assert_alike(one, train(world, lively(name), strategy, steps=steps))


def parts_and_sums(world: World) -> None:
    """What is held, in which arithmetic, and in which order it is added up."""
    one = train(ALONE, lively("dit"))
    cut = train(world, lively("dit"), pieces=3)
    assert_alike(one, cut)
    assert cut.early == 0  # nothing is exchanged before the last pass, or there were shards of gradients
    assert_alike(one, train(world, lively("dit"), "ddp", pieces=3))
    assert_alike(one, train(world, lively("dit"), ready=checkpoint_activations))
    for module in (cut.learner, cut.average):
        weights = list(module.parameters())
        assert all(isinstance(weight, DTensor) for weight in weights)
        held = sum(weight.to_local().numel() for weight in weights if isinstance(weight, DTensor))
        assert held < 0.52 * sum(weight.numel() for weight in weights)
    assert world.max(torch.tensor(cut.norms)).tolist() == cut.norms  # to the bit, on every rank
    half = [train(world, lively("dit"), strategy, compute=torch.bfloat16) for strategy in ("ddp", "fsdp")]
    assert half[1].losses == pytest.approx(half[0].losses, rel=2e-3)
    assert all(weight.dtype == torch.float32 for weight in half[1].learner.parameters())


class Unusual(DiT):
    """Weights that are one, weights that nobody uses, a layer with statistics of its own."""

    def __init__(self, spec: Any, **options: Any) -> None:
        super().__init__(spec, **options)
        self.layers[1].mlp = self.layers[0].mlp  # two blocks share
        self.statistics = nn.BatchNorm2d(spec.shape[0])
        self.unused: nn.Parameter | None = None

    def forward(self, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return super().forward(self.statistics(x), noise, cond)


def unusual(unused: bool = False) -> Backbone:
    torch.manual_seed(0)
    from strategies_kit import SPEC

    network = Unusual(SPEC, hidden=32, depth=3, heads=4)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.1)
    network.unused = nn.Parameter(torch.ones(7)) if unused else None
    return network


class Scaled(nn.Module):
    """An objective with a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(1, 1)
        nn.init.constant_(self.scale.weight, 0.5)
        nn.init.zeros_(self.scale.bias)

    def forward(self, attempt: Attempt) -> Tensor:
        found: Tensor = self.scale(l2(attempt)[:, None]).flatten()
        return found


def frozen(network: Backbone) -> None:
    network.get_submodule("layers.0").requires_grad_(False)
    network.get_submodule("patches").requires_grad_(False)


def unusual_ones(world: World) -> None:
    # what two blocks share is split once; statistics are of a rank's own images, as with DDP, so that is the measure
    assert_alike(train(world, unusual(), "ddp"), train(world, unusual()))
    shared = train(world, unusual(), steps=1).learner.backbone
    assert shared.get_parameter("layers.0.mlp.0.weight") is shared.get_parameter("layers.1.mlp.0.weight")
    # one that nobody uses stays as it is, and nobody waits for it; DDP says which
    lone = train(world, unusual(unused=True), steps=2)
    assert torch.equal(lone.whole()[:7], torch.ones(7))
    with pytest.raises(UserError, match=r"gives none to backbone\.unused: the forward pass does not use"):
        train(world, unusual(unused=True), "ddp")
    # statistics are the same on every rank: rank 0's
    means = lone.learner.backbone.get_buffer("statistics.running_mean")
    train(world, lively("dit"), steps=1)
    assert means.abs().sum() > 0
    objective = [Scaled(), Scaled(), Scaled()]
    runs = [
        train(world if n else ALONE, lively("dit"), s, objective=objective[n])
        for n, s in enumerate(("ddp", "ddp", "fsdp"))
    ]
    for run in runs[1:]:
        assert_alike(runs[0], run)
    assert isinstance(objective[2].scale.weight, DTensor) and objective[0].scale.weight.item() != 0.5
    assert objective[2].scale.weight.full_tensor().item() == pytest.approx(objective[0].scale.weight.item(), rel=1e-5)
    one = train(ALONE, lively("dit"), ready=frozen)
    for strategy in ("ddp", "fsdp"):
        assert_alike(one, train(world, lively("dit"), strategy, ready=frozen))
    with pytest.raises(UserError, match=r"backbone\.gain has none: give it the shape \(1,\)"):
        network = lively("dit")
        network.register_parameter("gain", nn.Parameter(torch.ones(())))
        train(world, network)
    network = lively("unet").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert_alike(train(ALONE, lively("unet")), train(world, network))


def everything(world: World) -> None:
    for work in (as_one, parts_and_sums, unusual_ones):
        work(world)


def test_two_ranks_are_one() -> None:
    on_ranks(2, everything)


def resumed_in_other_buckets(world: World) -> None:
    """Gradients of three ranks are added up in an order that depends on their place in a bucket."""
    from dmf.runner.training.strategies import DDP

    def step(network: nn.Module, steps: range) -> None:
        losses = DDP(world).wrap(network)  # type: ignore[arg-type]
        for number in steps:
            network.zero_grad(set_to_none=True)
            x = torch.randn(15, 11, generator=torch.Generator().manual_seed(number))[world.share_of(15)]
            losses(x).square().mean().backward()
            with torch.no_grad():
                for weight in network.parameters():
                    weight -= 0.5 * weight.grad

    def fresh() -> nn.Module:
        torch.manual_seed(0)
        # in an order of use that is not that of registration
        return nn.Sequential(nn.Linear(11, 37), nn.Tanh(), nn.Linear(37, 1000), nn.Tanh(), nn.Linear(1000, 3))

    straight, stopped = fresh(), fresh()
    step(straight, range(6))
    step(stopped, range(3))
    step(stopped, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), stopped.parameters(), strict=True))


def test_three_ranks_resume_bit_for_bit() -> None:
    on_ranks(3, resumed_in_other_buckets)
