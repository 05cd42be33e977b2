"""The optimizer of a recipe, and its groups of weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn

from ...core import Backbone, WeightGroup
from ...registry import Recipe, UserError
from ..assemble import part
from .patterns import factors_of, name_of


def build_optimizer(recipe: Recipe, module: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimizer of all weights that are trained.

    Raises:
        UserError: The optimizer refuses its options or these weights.
    """
    train = recipe.train
    groups = weight_groups(module, train.lr, train.weight_decay_on, train.lr_factors)
    try:
        optimizer: torch.optim.Optimizer = part("optimizer", train.optimizer)(groups)
    except ValueError as error:
        raise UserError(f"train.optimizer: {error}") from error
    for made, group in zip(optimizer.param_groups, groups, strict=True):
        made["full_lr"] = group.lr  # after the warm-up; `lr` is what it is now
    return optimizer


def weight_groups(
    module: nn.Module,
    lr: float,
    decayed: Literal["matrices", "all"] = "matrices",
    factors: Mapping[str, float] | None = None,
) -> list[WeightGroup]:
    """All weights that are trained; those that are treated alike together, in the order of the network.

    Args:
        module: A `Learner`.
        lr: Learning rate.
        decayed: What weight decay applies to. Never to what a layer names in `undecayed` or mamba-ssm marks.
        factors: On the learning rate, by patterns over names.

    Raises:
        UserError: A pattern chooses nothing.
    """
    named = dict(module.named_parameters())
    factor, hidden, undecayed = factors_of([name_of(n) for n in named], factors or {}), _hidden(module), _never(module)
    found: dict[tuple[float, bool, bool], dict[str, nn.Parameter]] = {}
    for name, weight in named.items():
        if weight.requires_grad:
            decays = id(weight) not in undecayed and (decayed == "all" or weight.ndim > 1)
            is_hidden = id(weight) in hidden and id(weight) not in undecayed
            found.setdefault((factor[name_of(name)], decays, is_hidden), {})[name] = weight
    return [
        WeightGroup(tuple(some), tuple(some.values()), lr * times, decays, is_hidden)
        for (times, decays, is_hidden), some in found.items()
    ]


def _never(module: nn.Module) -> set[int]:
    """Weights that never decay, whatever their shape."""
    named = {id(layer.get_parameter(name)) for layer in module.modules() for name in getattr(layer, "undecayed", ())}
    marked = {id(w) for w in module.parameters() if getattr(w, "_no_weight_decay", False)}  # mamba-ssm's own mark
    return named | marked


def _hidden(module: nn.Module) -> set[int]:
    """What `WeightGroup.hidden` says."""
    blocks = [block for backbone in module.modules() if isinstance(backbone, Backbone) for block in backbone.blocks()]
    layers = [layer for block in blocks for layer in block.modules() if not isinstance(layer, nn.Embedding)]
    mixing = [layer for layer in layers if getattr(layer, "groups", 1) == 1]
    return {id(weight) for layer in mixing for weight in layer.parameters(recurse=False) if weight.ndim > 1}
