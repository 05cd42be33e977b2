"""Arithmetic of what measures: float32 is float32, whatever the training around it has set.

A GPU may be allowed to shorten float32 to TF32, and torch allows it for convolutions unless it is told not to; a CPU
may be allowed to shorten it to bfloat16. Since torch 2.9 each operation has a switch of its own, and where somebody has
set one of them the older switches raise: the newer are read and set where there are any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import backends

CONVOLUTIONS, PRODUCTS = "convolutions", "matrix products"


class _Switch(NamedTuple):
    """What shortens float32 in an operation.

    Attributes:
        what: The operation.
        value: What it is set to.
        set_to: Sets it.
        whole: Values with which float32 stays as it is; the first can be set.
        short: The value with which a GPU computes in TF32.
    """

    what: str
    value: object
    set_to: Callable[[Any], None]
    whole: tuple[object, ...]
    short: object


@contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Within: no autocast, and neither TF32 nor bfloat16 in place of float32; afterwards all is as it was.

    Args:
        device: Where is computed.
    """
    with torch.autocast(device.type, enabled=False), ExitStack() as after:
        for switch in _switches(device):
            if switch.value not in switch.whole:
                after.callback(switch.set_to, switch.value)
                switch.set_to(switch.whole[0])
        yield


def allow_tf32(device: torch.device, allowed: bool) -> None:
    """Let a GPU compute products and convolutions of float32 in TF32, with 10 bits for 23, or not; others never do.

    Args:
        device: Where is computed.
        allowed: Whether to.
    """
    for switch in _switches(device) if device.type == "cuda" else []:
        switch.set_to(switch.short if allowed else switch.whole[0])


def shortened(device: torch.device) -> list[str]:
    """Operations in which ``device`` is allowed to compute in less than float32: convolutions, matrix products."""
    return [switch.what for switch in _switches(device) if switch.value not in switch.whole]


def _switches(device: torch.device) -> list[_Switch]:
    if device.type not in ("cpu", "cuda"):
        return []
    if hasattr(backends.cudnn, "conv"):
        of_cuda = ((CONVOLUTIONS, backends.cudnn.conv), (PRODUCTS, backends.cuda.matmul))
        of_cpu = ((CONVOLUTIONS, backends.mkldnn.conv), (PRODUCTS, backends.mkldnn.matmul))  # type: ignore[attr-defined]
        return [_newer(what, place) for what, place in (of_cuda if device.type == "cuda" else of_cpu)]
    products = _Switch(
        PRODUCTS, torch.get_float32_matmul_precision(), torch.set_float32_matmul_precision, ("highest",), "high"
    )
    if device.type == "cpu":
        return [products]
    allow = partial(setattr, backends.cudnn, "allow_tf32")
    return [_Switch(CONVOLUTIONS, backends.cudnn.allow_tf32, allow, (False,), True), products]


def _newer(what: str, place: Any) -> _Switch:
    name = "fp32_precision"
    return _Switch(what, getattr(place, name), partial(setattr, place, name), ("ieee", "none"), "tf32")
