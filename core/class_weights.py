"""Which weights of a network depend on the number of its classes: those that a change of classes makes anew.

The network itself says so: it is built for other numbers of classes, on the meta device, where weights have shapes and
no numbers. Cost: building the network twice more, without memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import nn

from .spec import DataSpec

Shapes = Mapping[str, tuple[int, ...]]


def class_weights(make: Callable[[DataSpec], nn.Module], spec: DataSpec) -> dict[str, frozenset[int]]:
    """The weights and buffers whose shape, or presence, depends on the number of classes.

    Args:
        make: Builds the network for a spec.
        spec: What the network in question sees.

    Returns:
        By name, in the state dict of a network with classes or of one without: the dimensions that change with the
        number of classes, none for what is there in one of them alone.
    """
    few, more, none = (_shapes(make, _with(spec, classes)) for classes in (2, 3, 0))
    if few is None or more is None:
        return {}
    pairs = {name: enumerate(zip(few[name], more[name], strict=True)) for name in few}
    dims = {name: frozenset(i for i, (a, b) in pair if a != b) for name, pair in pairs.items()}
    changing = {name: some for name, some in dims.items() if some}
    alone = few.keys() ^ (few if none is None else none).keys()
    return {**dict.fromkeys(sorted(alone), frozenset()), **changing}


def _with(spec: DataSpec, count: int) -> DataSpec:
    cond = {name: one for name, one in spec.cond.items() if name != "class"}
    return replace(spec, classes=tuple(f"class {k}" for k in range(count)), cond=cond)


def _shapes(make: Callable[[DataSpec], nn.Module], spec: DataSpec) -> Shapes | None:
    """Shapes by name; None where the network refuses such data."""
    try:
        with torch.device("meta"):
            return {name: tuple(value.shape) for name, value in make(spec).state_dict().items()}
    except ValueError:
        return None
