"""The optimizer: what weight decay leaves alone, and that its state goes out and comes in with the groups."""

import torch
from torch import nn

from dmf.core import DataSpec
from dmf.plugins.backbones.dim import DiM
from dmf.registry import read
from dmf.runner.optimizer import build_optimizer, load_optimizer_state, optimizer_state


def network() -> DiM:
    torch.manual_seed(0)
    return DiM(DataSpec((1, 8, 8)), hidden=16, depth=1, patch=4)


def stepped(module: nn.Module) -> torch.optim.AdamW:
    """One step from gradients of 0, which changes a weight by decay alone."""
    optimizer = build_optimizer(read("digits_dim", ["train.weight_decay=0.5", "train.lr=0.1"]), module)
    for weight in module.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    return optimizer


def test_decay_leaves_alone_what_a_backbone_marks() -> None:
    before, after = network(), network()
    stepped(after)
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        kept = name.endswith(("A_log", ".D"))
        assert torch.allclose(new, old if kept else old * (1 - 0.1 * 0.5)), name


def test_its_state_goes_out_and_comes_in() -> None:
    optimizer = stepped(network())
    fresh = build_optimizer(read("digits_dim"), network())
    load_optimizer_state(fresh, *optimizer_state(optimizer))
    assert [g["weight_decay"] for g in fresh.param_groups] == [0.5, 0.0]
    assert len(fresh.state) == len(list(network().parameters()))
