"""How networks that measure are asked and moved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ...core.arithmetic import exact_float32


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """Within: no gradients, and float32 as it is written.

    Args:
        device: Where the network is.
    """
    with torch.no_grad(), exact_float32(device):
        yield


def moved(network: nn.Module, device: torch.device) -> None:
    """Move a network; weights that are moved in inference mode could not be moved again outside it."""
    with torch.inference_mode(False):
        network.to(device)
