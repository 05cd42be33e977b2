"""Copies of a network that hold other tensors than it does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def remade(module: Module, weight: Callable[[str, Tensor], Tensor], buffer: Callable[[str, Tensor], Tensor]) -> Module:
    """A copy with other weights and buffers, for which no memory is taken but what those take.

    Args:
        module: Weights that are one in it stay one.
        weight: What comes for a weight, of its name and itself; it is trained where that one is.
        buffer: Likewise.
    """
    here: dict[int, object] = {id(old): buffer(name, old) for name, old in module.named_buffers()}
    for name, old in module.named_parameters():
        here[id(old)] = nn.Parameter(weight(name, old), old.requires_grad)
    return copy.deepcopy(module, here)
