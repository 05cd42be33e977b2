"""The optimizer of a recipe, and its groups of weights."""

from __future__ import annotations

import torch
from torch import nn

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
