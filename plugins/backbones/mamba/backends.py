"""Which backend computes a scan: the fused kernels, chunks in plain PyTorch, or the recurrence."""

import warnings
from typing import Literal, get_args

import torch

from . import fused

Backend = Literal["auto", "fused", "torch", "reference"]
Resolved = Literal["fused", "torch", "reference"]
Layer = Literal["mamba1", "mamba2"]


def resolve(backend: Backend, layer: Layer, device: torch.device) -> Resolved:
    """The backend that will be used for tensors on ``device``.

    ``auto`` is ``fused`` where mamba-ssm is installed, its kernels run and the device is CUDA, else ``torch``. An
    installed mamba-ssm whose kernels do not run is warned of, once.

    Args:
        backend: What was asked for.
        layer: ``mamba1`` is the selective scan, ``mamba2`` the state-space dual; their kernels are built apart.
        device: Of the tensors.

    Raises:
        ValueError: An unknown backend, or ``fused`` where it cannot run; it says why, and how to install it.
    """
    chosen: Resolved = _settled(backend, layer, device)
    return chosen


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # a compiled network asks when it is traced
def _settled(backend: Backend, layer: Layer, device: torch.device) -> Resolved:
    if backend not in get_args(Backend):
        raise ValueError(f"backend is one of {', '.join(get_args(Backend))}; got {backend!r}")
    if backend == "torch" or backend == "reference":
        return backend
    if backend == "fused":
        reason = fused.unusable(layer, device)
        if reason is not None:
            raise ValueError(f"backend fused cannot be used: {reason}; or write backend: auto")
        return "fused"
    if device.type != "cuda" or not fused.installed():
        return "torch"
    reason = fused.unusable(layer, device)
    if reason is None:
        return "fused"
    warnings.warn(f"mamba-ssm is installed but its kernels are not used: {reason}", stacklevel=2)
    return "torch"


def checked(backend: Backend, layer: Layer) -> Backend:
    """The backend, when it is one and could run on some device of this machine."""
    resolve(backend, layer, torch.device("cuda" if backend == "fused" else "cpu"))
    return backend
