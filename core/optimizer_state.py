"""The state of an optimizer by the names of its weights, on the way to a checkpoint and back.

torch numbers the weights in the order of their groups. Names hold when the groups become others, and a tensor's name
says what it is: ``exp_avg/blocks.0.qkv.weight``. Sharded tensors (DTensor) stay sharded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .shards import placed_like

OF_THIS_PROCESS = ("params", "lr", "full_lr", "fused", "foreach", "capturable", "differentiable")
"""What a group has from its recipe and its device, never from a checkpoint."""


def optimizer_state(optimizer: torch.optim.Optimizer, module: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state as named tensors and plain JSON: no pickle.

    Args:
        optimizer: Of weights of ``module``.
        module: Names them.

    Returns:
        The tensors themselves, no copies, as ``<key>/<weight's name>``; and a mapping of the rest: ``weights``, what is
        no tensor, under the same names, and ``groups``, each with the ``names`` of its weights and its settings.
    """
    named = _named(module)
    tensors, plain = dict[str, Tensor](), dict[str, Any]()
    for weight, values in optimizer.state.items():
        for key, value in values.items():
            (tensors if isinstance(value, Tensor) else plain)[f"{key}/{named[weight]}"] = value
    groups = [{"names": [named[w] for w in g["params"]], **_settings(g)} for g in optimizer.param_groups]
    return tensors, {"weights": plain, "groups": groups}


def make_state(optimizer: torch.optim.Optimizer) -> None:
    """Make the state that the first step would make, so that there is something to read a checkpoint into.

    Takes a step of gradient 0 at learning rate 0 without weight decay, which changes no weight; what it counts is to be
    overwritten by `load_optimizer_state`.
    """
    settings: list[dict[str, Any]] = [
        {k: g[k] for k in ("lr", "weight_decay") if k in g} for g in optimizer.param_groups
    ]
    weights = [w for g in optimizer.param_groups for w in g["params"]]
    before = [w.grad for w in weights]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    for group, old in zip(optimizer.param_groups, settings, strict=True):
        group.update(dict.fromkeys(old, 0.0))
    optimizer.step()
    for group, old in zip(optimizer.param_groups, settings, strict=True):
        group.update(old)
    for weight, gradient in zip(weights, before, strict=True):
        weight.grad = gradient


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, module: nn.Module, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]
) -> None:
    """The inverse of `optimizer_state`, in place.

    Args:
        optimizer: Of the same weights, in groups of any order.
        module: Names them.
        tensors: Whole tensors on any device; or those of `optimizer_state` itself, after `make_state`, when they have
            been read into already.
        plain: The rest.

    Raises:
        ValueError: Tensors of another optimizer, of other weights or of another shape; named.
    """
    if not optimizer.state:
        make_state(optimizer)
    mine = optimizer_state(optimizer, module)[0]
    _check(mine, tensors, optimizer, module)
    with torch.no_grad():
        for name, value in tensors.items():
            if mine[name] is not value:
                mine[name].copy_(placed_like(value, mine[name]))
    weights = {name: weight for weight, name in _named(module).items()}
    for weight in {weights[_weight(n)] for n in mine.keys() - tensors.keys()}:
        optimizer.state.pop(weight, None)  # it never had a gradient
    for name, value in plain["weights"].items():
        optimizer.state[weights[_weight(name)]][name.partition("/")[0]] = value
    _load_settings(optimizer, module, plain)


def _named(module: nn.Module) -> dict[Tensor, str]:
    return {weight: name for name, weight in module.named_parameters()}


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a group that an optimizer may change as it goes, and the recipe's beside them."""
    return {key: value for key, value in group.items() if key not in OF_THIS_PROCESS}


def _load_settings(optimizer: torch.optim.Optimizer, module: nn.Module, plain: Mapping[str, Any]) -> None:
    named, saved = _named(module), {name: group for group in plain["groups"] for name in group["names"]}
    for group in optimizer.param_groups:
        old = saved.get(named[group["params"][0]], {}) if group["params"] else {}
        for key in _settings(group).keys() & old.keys():
            group[key] = tuple(old[key]) if isinstance(group[key], tuple) else old[key]


def _check(
    mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, module: nn.Module
) -> None:
    weights = {_weight(name) for name in theirs}
    unknown = [name for name in theirs if name not in mine]
    missing = [name for name in mine if name not in theirs and _weight(name) in weights]
    shapes = [
        f"{name}: {tuple(value.shape)} there, {tuple(mine[name].shape)} here"
        for name, value in theirs.items()
        if name in mine and value.shape != mine[name].shape
    ]
    if others := sorted(weights - set(_named(module).values())):
        _refuse("of other weights", optimizer, others)
    if unknown or missing:
        _refuse("of another optimizer", optimizer, [*unknown, *missing])
    if shapes:
        _refuse("of other shapes", optimizer, shapes)


def _refuse(what: str, optimizer: torch.optim.Optimizer, listed: list[str]) -> None:
    more = f" and {len(listed) - 6} more" if len(listed) > 6 else ""
    raise ValueError(
        f"the optimizer's state is {what} than this {type(optimizer).__name__}'s: {', '.join(listed[:6])}{more}; "
        "go on with the recipe that the run was started with, or start a new run from its weights (init_from)"
    )


def _weight(name: str) -> str:
    return name.partition("/")[2]
