"""What any optimizer must hold to."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ..core import MakeOptimizer, WeightGroup
from .claims import called, hold, require

LR = 1e-2


def check_optimizer(make: MakeOptimizer) -> None:
    """Hold an optimizer to the interface: every check below.

    Raises:
        AssertionError: With a sentence, at the first that fails.
    """
    hold(OPTIMIZER_CHECKS, make)


def check_descends(make: MakeOptimizer) -> None:
    """Fifty steps lower a convex loss."""
    module = _module()
    optimizer = make(_groups(module))
    before = float(_loss(module).detach())
    for _ in range(50):
        _step(module, optimizer)
    after = float(_loss(module).detach())
    require(after < before, f"{called(make)} goes from a loss of {before:.3g} to {after:.3g} in 50 steps")


def check_groups(make: MakeOptimizer) -> None:
    """Its groups are those that it was given, in order, each with its learning rate."""
    groups = _groups(_module())
    made = make(groups).param_groups
    same = len(made) == len(groups) and all(
        list(map(id, m["params"])) == list(map(id, g.weights)) and m["lr"] == g.lr
        for m, g in zip(made, groups, strict=True)
    )
    require(same, f"{called(make)} was given {len(groups)} groups, and its own {len(made)} are others")


def check_goes_on(make: MakeOptimizer) -> None:
    """A state that is saved and loaded takes the same next step, bit for bit."""
    module = _module()
    optimizer = make(_groups(module))
    _step(module, optimizer)
    other = copy.deepcopy(module)
    again = make(_groups(other))
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one, by in ((module, optimizer), (other, again)):
        _step(one, by)
    same = all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))
    require(same, f"{called(make)} takes another step after its state has been saved and loaded")


OPTIMIZER_CHECKS = (check_descends, check_groups, check_goes_on)


def _module() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 2))


def _groups(module: nn.Module) -> list[WeightGroup]:
    named = dict(module.named_parameters())
    matrices = {name: weight for name, weight in named.items() if weight.ndim > 1}
    others = {name: weight for name, weight in named.items() if weight.ndim <= 1}
    return [WeightGroup(tuple(g), tuple(g.values()), LR / n, n == 1) for n, g in enumerate((matrices, others), 1)]


def _loss(module: nn.Module) -> torch.Tensor:
    x = torch.linspace(-1, 1, 48).reshape(8, 6)
    loss: torch.Tensor = (module(x) - 1).square().mean()
    return loss


def _step(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    _loss(module).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
