"""How the device computes: deterministic or not, TF32, compiled, in which order memory is filled.

`set_up` is of the process, once it knows its device; `prepare` is of a network. Both change how fast a result comes and
how it is rounded, nothing else.
"""

from __future__ import annotations

import os

import torch
from torch import backends, nn

from ..core import Backbone
from ..core.arithmetic import allow_tf32, shortened
from ..registry import Compute, UserError
from .console import log

AMPERE = (8, 0)  # the first with TF32
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def set_up(compute: Compute, device: torch.device) -> None:
    """Make the process compute as the recipe says; before anything is computed.

    Args:
        compute: The recipe's.
        device: Where this process computes.

    Raises:
        UserError: It asks for a compiler, and there is none that works.
    """
    _be_deterministic(compute.deterministic)
    has_tf32 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= AMPERE
    if compute.tf32 is True and not has_tf32:
        log.warning("compute.tf32: %s has no TF32; float32 it is", device)
    allow_tf32(device, has_tf32 if compute.tf32 == "auto" else compute.tf32)
    if compute.compile:
        _check_compiler(device)


def _be_deterministic(wanted: bool) -> None:
    if wanted:  # cuBLAS reads it when it is first used
        os.environ.setdefault(WORKSPACE, ":4096:8")
    torch.use_deterministic_algorithms(wanted)
    # what nobody reads need not be filled
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    backends.cudnn.deterministic = wanted
    backends.cudnn.benchmark = not wanted  # it takes the algorithm that was fastest, another one each time


def _check_compiler(device: torch.device) -> None:
    """Compile something small: what is missing is told before the long work."""
    try:
        torch.compile(_doubled)(torch.ones(8, device=device))
    except Exception as error:
        why = " ".join(str(error).split())[:300]
        raise UserError(
            f"compute.compile: torch.compile does not work on this machine: {why}\nInstall a C++ compiler (g++), for a "
            "GPU triton too, or write compute.compile: false"
        ) from error


def _doubled(x: torch.Tensor) -> torch.Tensor:
    return x + x


def prepare(network: Backbone, compute: Compute, device: str) -> None:
    """Make a network ready, in place: names and values of its weights stay.

    Args:
        network: On any device; before it is copied, wrapped or sharded.
        compute: The recipe's.
        device: The recipe's, where it will compute.

    Raises:
        UserError: Blocks are to be compiled, and it has none.
    """
    if _wants_channels_last(network, compute, device != "cpu" and torch.cuda.is_available()):
        network.to(memory_format=torch.channels_last)
    if compute.compile is True:
        network.compile()
    if compute.compile == "blocks":
        blocks = network.blocks()
        if not blocks:
            raise UserError(
                f"compute.compile: blocks() of {type(network).__name__} is empty, and blocks were to be compiled; "
                "write compute.compile: true, which compiles all of it"
            )
        for block in blocks:
            block.compile()


def _wants_channels_last(network: nn.Module, compute: Compute, on_gpu: bool) -> bool:
    """Where it is left to us: networks on a GPU most of whose weights are in convolutions of pictures."""
    if compute.channels_last != "auto":
        return compute.channels_last
    convolutions = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    inside = sum(m.weight.numel() for m in convolutions)
    return on_gpu and 2 * inside > sum(weight.numel() for weight in network.parameters())


def in_words(compute: Compute, network: nn.Module, device: torch.device) -> list[str]:
    """What is used, for a line at the start; what is as ever is left out."""
    said = []
    if device.type == "cuda":
        short = shortened(device)
        said.append(f"TF32 in {' and '.join(short)}" if short else "no TF32")
    if compute.compile:
        said.append("compiled" if compute.compile is True else "compiled blocks")
    if _wants_channels_last(network, compute, device.type == "cuda"):
        said.append("channels last")
    if compute.deterministic:
        said.append("deterministic")
    return said
