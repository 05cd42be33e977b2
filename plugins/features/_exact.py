"""Arithmetic of networks that measure: float32 is float32, whatever the training around it has set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.backends import cuda, cudnn


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """Within: no gradients, no autocast, no TF32, which torch takes for convolutions unless it is told not to.

    Args:
        device: Where the network is.
    """
    with torch.no_grad(), torch.autocast(device.type, enabled=False), ExitStack() as after:
        if device.type == "cuda":
            for place, name, plain in _switches():
                after.callback(setattr, place, name, getattr(place, name))
                setattr(place, name, plain)
        yield


def moved(network: nn.Module, device: torch.device) -> None:
    """Move a network; weights that are moved in inference mode could not be moved again outside it."""
    with torch.inference_mode(False):
        network.to(device)


def _switches() -> list[tuple[Any, str, object]]:
    """What turns TF32 off: (object, attribute, value).

    Since torch 2.9 there are others, one for each operation, and where somebody has set one of them the old ones raise.
    """
    convolutions = getattr(cudnn, "conv", None)
    if convolutions is None:
        return [(cudnn, "allow_tf32", False), (cuda.matmul, "allow_tf32", False)]
    return [(convolutions, "fp32_precision", "ieee"), (cuda.matmul, "fp32_precision", "ieee")]
