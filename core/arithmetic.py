"""Arithmetic of what measures: float32 is float32, whatever the training around it has set.

A GPU may be allowed to shorten float32 to TF32, and torch allows it for convolutions unless it is told not to; a CPU
may be allowed to shorten it to bfloat16. Since torch 2.9 each operation has a switch of its own, and where somebody has
set one of them the older switches raise: the newer are read where there are any, and both are set, so that whoever
reads the older ones (torch's own compiler does, and so may a plugin) still gets an answer.
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
        conv, matmul = backends.mkldnn.conv, backends.mkldnn.matmul  # type: ignore[attr-defined]
        if device.type == "cpu":
            return [_newer(CONVOLUTIONS, conv, _setter(conv)), _newer(PRODUCTS, matmul, _setter(matmul))]
        conv, matmul = backends.cudnn.conv, backends.cuda.matmul
        return [_newer(CONVOLUTIONS, conv, _convolutions()), _newer(PRODUCTS, matmul, _products())]
    products = _Switch(
        PRODUCTS, torch.get_float32_matmul_precision(), torch.set_float32_matmul_precision, ("highest",), "high"
    )
    if device.type == "cpu":
        return [products]
    allow = partial(setattr, backends.cudnn, "allow_tf32")
    return [_Switch(CONVOLUTIONS, backends.cudnn.allow_tf32, allow, (False,), True), products]


def _newer(what: str, place: Any, set_to: Callable[[Any], None]) -> _Switch:
    return _Switch(what, place.fp32_precision, set_to, ("ieee", "none"), "tf32")


def _setter(place: Any) -> Callable[[Any], None]:
    return partial(setattr, place, "fp32_precision")


def _products() -> Callable[[Any], None]:
    """Sets the newer switch of a GPU's products and the older one, and leaves a CPU's, which the older sets too."""
    matmul, of_cpu = backends.cuda.matmul, backends.mkldnn.matmul  # type: ignore[attr-defined]
    now = matmul.fp32_precision
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:  # somebody has set the newer one alone
        older = "high" if now == "tf32" else "highest"

    def set_to(value: Any) -> None:
        on_cpu = of_cpu.fp32_precision
        torch.set_float32_matmul_precision(older if value == now else "high" if value == "tf32" else "highest")
        matmul.fp32_precision, of_cpu.fp32_precision = value, on_cpu

    return set_to


def _convolutions() -> Callable[[Any], None]:
    """Sets the newer switch of a GPU's convolutions and the older one, which is recurrent layers' too."""
    cudnn: Any = backends.cudnn
    now = cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision

    def set_to(value: Any) -> None:
        cudnn.allow_tf32 = value == "tf32"
        cudnn.conv.fp32_precision = value
        cudnn.rnn.fp32_precision = now[1] if value == now[0] else value

    return set_to
