"""The optimizer and the course of its learning rate.

AdamW: Loshchilov & Hutter 2017 (arXiv 1711.05101), algorithm 2. Cosine decay: Loshchilov & Hutter 2016
(arXiv 1608.03983), equation 5, without restarts.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..registry import Recipe


def build_optimizer(recipe: Recipe, module: nn.Module) -> torch.optim.AdamW:
    """AdamW, fused: it can pass over a step whose gradient is not finite without asking the CPU."""
    train = recipe.train
    groups = _groups(module, train.weight_decay)
    return torch.optim.AdamW(groups, lr=train.lr, betas=train.betas, weight_decay=train.weight_decay, fused=True)


def _groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """All weights, but without decay those that a layer names in `undecayed` or that mamba-ssm marks."""
    named = {id(layer.get_parameter(name)) for layer in module.modules() for name in getattr(layer, "undecayed", ())}
    decayed, kept = list[nn.Parameter](), list[nn.Parameter]()
    for parameter in module.parameters():
        if parameter.requires_grad:
            is_kept = id(parameter) in named or getattr(parameter, "_no_weight_decay", False)  # mamba-ssm's own mark
            (kept if is_kept else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def learning_rate(recipe: Recipe, step: int, horizon: int) -> float:
    """The rate of step ``step`` (from 0), counted in steps and so the same on any number of ranks.

    Args:
        recipe: Gives lr, warmup, decay.
        step: Steps taken before.
        horizon: The length that a decay is laid out for; a run that is extended keeps it, and its last rate.
    """
    train = recipe.train
    if step < train.warmup:
        return train.lr * (step + 1) / train.warmup
    if train.decay == "constant":
        return train.lr
    done = min((step - train.warmup) / max(horizon - train.warmup, 1), 1.0)
    return train.lr * 0.5 * (1 + math.cos(math.pi * done))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Use ``rate`` from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = rate


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
