"""The optimizer: what weight decay leaves alone, and that its state goes out and comes in with the groups."""

import copy
from typing import Literal

import pytest
import torch
from torch import nn

from dmf.core import DataSpec
from dmf.plugins.backbones.dim import DiM
from dmf.registry import read
from dmf.runner.training.optimizer import build_optimizer, load_optimizer_state, optimizer_state


def network(layer: Literal["mamba1", "mamba2"] = "mamba1") -> DiM:
    torch.manual_seed(0)
    return DiM(DataSpec((1, 8, 8)), hidden=32, depth=1, patch=4, layer=layer)


def stepped(module: nn.Module) -> torch.optim.Optimizer:
    """One step from gradients of 0, which changes a weight by decay alone."""
    optimizer = build_optimizer(read("digits_dim", ["train.optimizer.weight_decay=0.5", "train.lr=0.1"]), module)
    for weight in module.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    return optimizer


@pytest.mark.parametrize("layer", ["mamba1", "mamba2"])
@pytest.mark.parametrize("is_copied", [False, True])
def test_decay_leaves_alone_what_a_layer_names(layer: Literal["mamba1", "mamba2"], is_copied: bool) -> None:
    before = network(layer)
    after = copy.deepcopy(before) if is_copied else network(layer)
    stepped(after)
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        kept = name.endswith(("A_log", ".D", ".dt_bias"))
        assert torch.allclose(new, old if kept else old * (1 - 0.1 * 0.5)), name


def test_decay_leaves_alone_what_mamba_ssm_marks() -> None:
    module = nn.Linear(2, 2)
    nn.init.ones_(module.bias)
    module.bias._no_weight_decay = True  # type: ignore[attr-defined]
    stepped(module)
    assert torch.equal(module.bias, torch.ones(2))


def test_without_such_names_there_is_one_group() -> None:
    module = nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    (group,) = build_optimizer(read("digits_dim"), module).param_groups
    assert len(group["params"]) == 1


def test_its_state_goes_out_and_comes_in() -> None:
    optimizer = stepped(network())
    fresh = build_optimizer(read("digits_dim"), network())
    load_optimizer_state(fresh, *optimizer_state(optimizer))
    assert [g["weight_decay"] for g in fresh.param_groups] == [0.5, 0.0]
    assert len(fresh.state) == len(list(network().parameters()))
