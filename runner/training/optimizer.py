"""The optimizer: its groups of weights, and its state on the way to a checkpoint and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...core import WeightGroup
from ...registry import Recipe
from ..assemble import part


def build_optimizer(recipe: Recipe, module: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimizer of all weights that are trained."""
    groups = weight_groups(module, recipe.train.lr)
    optimizer: torch.optim.Optimizer = part("optimizer", recipe.train.optimizer)(groups)
    for made, group in zip(optimizer.param_groups, groups, strict=True):
        made["full_lr"] = group.lr  # after the warm-up; `lr` is what it is now
    return optimizer


def weight_groups(module: nn.Module, lr: float) -> list[WeightGroup]:
    """All weights, but without decay those that a layer names in `undecayed` or that mamba-ssm marks."""
    named = {id(layer.get_parameter(name)) for layer in module.modules() for name in getattr(layer, "undecayed", ())}
    decayed, kept = dict[str, nn.Parameter](), dict[str, nn.Parameter]()
    for name, weight in module.named_parameters():
        if weight.requires_grad:
            is_kept = id(weight) in named or getattr(weight, "_no_weight_decay", False)  # mamba-ssm's own mark
            (kept if is_kept else decayed)[name] = weight
    made = [(decayed, True), (kept, False)]
    return [WeightGroup(tuple(some), tuple(some.values()), lr, decays) for some, decays in made if some]


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state as named tensors and plain JSON: no pickle."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{key}"] = value
            else:
                plain.setdefault(str(index), {})[key] = value
    return tensors, {"groups": state["param_groups"], "state": plain}


def load_optimizer_state(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    """The inverse of `optimizer_state`."""
    state: dict[int, dict[str, Any]] = {int(i): dict(values) for i, values in plain["state"].items()}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    groups = [{**g, "betas": tuple(g["betas"])} if "betas" in g else g for g in plain["groups"]]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
