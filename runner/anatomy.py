"""What a backbone is for given data: its output, parameters, blocks, and the work of a forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ..core import Backbone, DataSpec
from ..core.flops import flop_counter
from ..registry import UserError
from .console import log
from .summary import one_input


@dataclass(frozen=True)
class Anatomy:
    """A backbone, measured.

    Attributes:
        output: (C or more, *size) of one image.
        parameters: All of them.
        trained: Those that a training changes.
        children: Parameters of each module of the top level, by name; of tensors beside them under "(own)".
        blocks: How many blocks of each class there are.
        block_parameters: Parameters of all blocks together.
        flops: Of one forward pass of one image (see `core.flops`): matrix products, convolutions and attention, a
            multiply-add as two. A network that works otherwise on a CPU is told as it works elsewhere.
    """

    output: tuple[int, ...]
    parameters: int
    trained: int
    children: dict[str, int]
    blocks: dict[str, int]
    block_parameters: int
    flops: int


def anatomy(make: Callable[[DataSpec], Backbone], spec: DataSpec) -> Anatomy:
    """Build a backbone and ask it; without memory or arithmetic where its code lets that be.

    Args:
        make: The backbone of a spec.
        spec: What it is to see.

    Raises:
        UserError: It refuses the data, or cannot be run.
    """
    try:
        with torch.device("meta"):
            return measured(make(spec), spec)
    except UserError:
        raise
    except Exception as error:  # code that looks at numbers, which a tensor on "meta" has none of; or a defect
        log.warning('without memory (on "meta") it fails, %s; built in full instead', _trouble(error))
    return _in_full(make, spec)


def _in_full(make: Callable[[DataSpec], Backbone], spec: DataSpec) -> Anatomy:
    """The same with memory and arithmetic; whatever fails here is the network's, and its user is told."""
    try:
        network = make(spec)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"it cannot be built: {_trouble(error)}") from error
    try:
        return measured(network, spec)
    except Exception as error:
        raise UserError(f"the network is built for {spec.shape}, and its forward fails: {_trouble(error)}") from error


def _trouble(error: Exception) -> str:
    """Kind and text: of a KeyError the text alone is but a name."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


@torch.no_grad()
def measured(network: Backbone, spec: DataSpec) -> Anatomy:
    """The anatomy of a network that is built, by one forward pass of one image."""
    with flop_counter() as counter:
        output = network.eval()(*one_input(network, spec))
    children = {name: _count(child) for name, child in network.named_children()}
    own = sum(p.numel() for p in network.parameters(recurse=False))
    blocks = network.blocks()
    return Anatomy(
        output=tuple(output.shape[1:]),
        parameters=_count(network),
        trained=sum(p.numel() for p in network.parameters() if p.requires_grad),
        children={**children, **({"(own)": own} if own else {})},
        blocks=dict(Counter(type(block).__name__ for block in blocks)),
        block_parameters=_count(nn.ModuleList(blocks)),
        flops=counter.get_total_flops(),
    )


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
