"""Gradients of a network by name, and how far they are from those of the same network run in another way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..core import Backbone, Cond
from .claims import require

Inputs = tuple[Tensor, Tensor, Cond]


def gradients(call: Callable[..., Any], network: Backbone, given: Inputs) -> dict[str, Tensor]:
    """The output, and the gradient of its square, by name.

    Args:
        call: Gives the output: the network, or what runs it in another way.
        network: Its weights; those without a gradient are left out.
        given: Images, noise labels and conditions.
    """
    network.zero_grad(set_to_none=True)
    torch.manual_seed(0)
    out = call(*given)
    out.square().mean().backward()
    found = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    return {"output": out.detach(), **{f"gradient of {name}": gradient for name, gradient in found.items()}}


def require_near(got: dict[str, Tensor], want: dict[str, Tensor], close: float, when: str, floor: float = 0) -> None:
    """Require the same names, finite numbers, and differences within a bound.

    Args:
        got: From the other way.
        want: From the plain one.
        close: The largest difference, relative to the largest entry of that name.
        when: The other way, as the sentence begins.
        floor: Where all entries of a name are smaller than this part of the largest gradient, relative to that part:
            a gradient that is 0 but for rounding, as of a key's bias in attention, is not held to itself.

    Raises:
        AssertionError: At the first of these that fails.
    """
    lost, new = [name for name in want if name not in got], [name for name in got if name not in want]
    require(not lost, f"{when}, it has no {', '.join(lost[:3])}")
    require(not new, f"{when}, it has a {', '.join(new[:3])}, which it otherwise has not")
    # first, for no number is further off than NaN by comparison
    for numbers, case in ((want, "as it is"), (got, when)):
        wild = [name for name, values in numbers.items() if not values.isfinite().all()]
        require(not wild, f"{case}, the {', '.join(wild[:3])} is not finite")
    largest = {name: float(w.abs().max()) for name, w in want.items()}
    least = max(1e-12, floor * max((size for name, size in largest.items() if name != "output"), default=0))
    off = {name: float((got[name] - w).abs().max()) / max(largest[name], least) for name, w in want.items()}
    name = max(off, key=lambda one: off[one])
    require(off[name] <= close, f"{when}, the {name} is {off[name]:.1e} off")
