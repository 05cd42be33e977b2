"""What any optimizer must hold to."""

from __future__ import annotations

import copy
import json

import torch
from torch import Tensor, nn

from ..core import MakeOptimizer, WeightGroup, load_optimizer_state, optimizer_state, take_step
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
    """A state that goes out by names and JSON, and comes in, takes the same next step, bit for bit."""
    module = _module()
    optimizer = make(_groups(module))
    for _ in range(2):
        _step(module, optimizer)
    other = copy.deepcopy(module)
    again = make(_groups(other))
    tensors, plain = optimizer_state(optimizer, module)
    load_optimizer_state(again, other, {n: t.clone() for n, t in tensors.items()}, json.loads(json.dumps(plain)))
    for one, by in ((module, optimizer), (other, again)):
        _step(one, by)
    require(_same(module, other), f"{called(make)} takes another step after its state has been saved and loaded")


def check_passes_over(make: MakeOptimizer) -> None:
    """A step whose gradient is not finite changes no weight and no state, be it the first one or a later one."""
    module, twin = _module(), _module()
    optimizer, undisturbed = make(_groups(module)), make(_groups(twin))
    for place in range(3):
        before = copy.deepcopy(module), {n: t.clone() for n, t in optimizer_state(optimizer, module)[0].items()}
        _step(module, optimizer, bad=True)
        after = optimizer_state(optimizer, module)[0]
        changed = [n for n, t in before[1].items() if not torch.equal(t, after[n])]
        require(not changed, f"{called(make)} changes its state in a step that is bad: {', '.join(changed)}")
        require(_same(module, before[0]), f"{called(make)} changes weights in a step that is bad")
        for one, by in ((module, optimizer), (twin, undisturbed)):
            _step(one, by)
        require(_same(module, twin), f"{called(make)} steps otherwise after {place + 1} bad steps than without them")


OPTIMIZER_CHECKS = (check_descends, check_groups, check_goes_on, check_passes_over)


def _same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def _module() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 2))


def _groups(module: nn.Module) -> list[WeightGroup]:
    """A hidden matrix, the last one, the biases: a group each, with learning rates and decays of its own."""
    named = dict(module.named_parameters())
    kinds = (("0.weight",), ("1.weight",), ("0.bias", "1.bias"))
    return [
        WeightGroup(names, tuple(named[name] for name in names), LR / n, decays=n < 3, hidden=n == 1)
        for n, names in enumerate(kinds, 1)
    ]


def _loss(module: nn.Module) -> Tensor:
    x = torch.linspace(-1, 1, 48).reshape(8, 6)
    loss: Tensor = (module(x) - 1).square().mean()
    return loss


def _step(module: nn.Module, optimizer: torch.optim.Optimizer, bad: bool = False) -> None:
    optimizer.zero_grad()
    (_loss(module) * (float("nan") if bad else 1.0)).backward()  # type: ignore[no-untyped-call]
    take_step(optimizer, torch.tensor(float(bad)))
