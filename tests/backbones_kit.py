"""What the tests of backbones share: a small one of each by name, inputs, and weights unlike those of the start."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dmf.core import Backbone, DataSpec
from dmf.registry import find, load

LETTERS = tuple("abcdefg")
# Small enough for a test, the contract's too: two blocks or two levels, no dropout; for sides that are multiples of 4.
SMALL: Mapping[str, Mapping[str, Any]] = {
    "context_unet": {"width": 8, "groups": 4},
    "dim": {"hidden": 32, "depth": 4},
    "dit": {"hidden": 32, "depth": 2, "heads": 4},
    "unet": {"base": 8, "multipliers": [1, 2], "blocks": 1, "attention": [], "groups": 4, "dropout": 0},
}


def small(name: str, spec: DataSpec, **options: Any) -> Backbone:
    """The backbone of that name with its small options, and with others where they are given."""
    network: Backbone = load(find("backbone", name))(spec, **{**SMALL[name], **options})
    return network


def has_option(name: str, option: str) -> bool:
    return option in inspect.signature(load(find("backbone", name))).parameters


def inputs(spec: DataSpec, batch: int = 6) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(batch, *spec.shape, generator=draw)
    noise = 1000 * torch.rand(batch, generator=draw)
    label = {"class": torch.arange(batch) % (spec.null_class + 1)}  # the last is "none"
    return x, noise, label if spec.classes else {}


def lively(network: Backbone) -> Backbone:
    """The network with weights in place of the zeros that it starts with, in evaluation."""
    torch.manual_seed(2)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network.eval()


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())
