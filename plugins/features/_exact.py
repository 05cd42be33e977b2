"""Arithmetic of networks that measure: float32 is float32, whatever the training around it has set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.backends import cuda, cudnn


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """Within: no gradients, no autocast, no TF32, which torch takes for convolutions unless it is told not to.

    Args:
        device: Where the network is.
    """
    allowed = cuda.matmul.allow_tf32
    cuda.matmul.allow_tf32 = False
    kept = {"enabled": cudnn.enabled, "benchmark": cudnn.benchmark, "deterministic": cudnn.deterministic}
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False), cudnn.flags(**kept, allow_tf32=False):
            yield
    finally:
        cuda.matmul.allow_tf32 = allowed


def moved(network: nn.Module, device: torch.device) -> None:
    """Move a network; weights that are moved in inference mode could not be moved again outside it."""
    with torch.inference_mode(False):
        network.to(device)
