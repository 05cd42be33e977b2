"""A table of the network: modules, output shapes, parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core import DataSpec, complete
from .tables import table

MAX_DEPTH = 3


def parameters(network: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


@torch.no_grad()
def network_summary(network: nn.Module, spec: DataSpec) -> str:
    """One line a module down to three levels, from one forward pass of one image on the network's device.

    Args:
        network: The backbone.
        spec: What it sees.
    """
    shapes: dict[str, str] = {}
    named = [(name, m) for name, m in network.named_modules() if name.count(".") < MAX_DEPTH and not _is_list(m)]
    handles = [m.register_forward_hook(_recorder(name, shapes)) for name, m in named]
    was_training = network.training
    try:
        network.eval()(*one_input(network, spec))
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    rows = [(name or "(whole)", type(m).__name__, shapes.get(name, "-"), f"{parameters(m):,}") for name, m in named]
    return "\n".join(table([("module", "type", "output", "parameters"), *rows], left=3)) + "\n"


def one_input(network: nn.Module, spec: DataSpec) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """An image of zeros with its noise label and conditions, on the network's device."""
    device = next(network.parameters()).device
    cond = {
        name: torch.zeros(1, dtype=torch.int64, device=device)
        if one.kind == "class"
        else torch.zeros(1, *one.shape, device=device)
        for name, one in spec.cond.items()
    }
    return torch.zeros(1, *spec.shape, device=device), torch.zeros(1, device=device), complete(cond, spec)


def _is_list(module: nn.Module) -> bool:
    return isinstance(module, (nn.ModuleList, nn.ModuleDict))


def _recorder(name: str, shapes: dict[str, str]):  # type: ignore[no-untyped-def]
    def record(module: nn.Module, given: object, output: object) -> None:
        if isinstance(output, Tensor):
            shapes[name] = "x".join(map(str, output.shape))

    return record
