"""Tensors of which each rank holds a part (torch's DTensor): whole, and back in parts.

torch's module for them takes half a second to import, so it is imported by those who have such tensors.
"""

from __future__ import annotations

from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether it is a DTensor."""
    return hasattr(tensor, "device_mesh")


def whole(tensor: Tensor) -> Tensor:
    """The whole tensor on every rank, gathered; a plain one as it is."""
    if not is_sharded(tensor):
        return tensor
    gathered: Tensor = tensor.full_tensor()  # type: ignore[attr-defined]
    return gathered


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor; a plain one as it is."""
    if not is_sharded(tensor):
        return tensor
    held: Tensor = tensor.to_local()  # type: ignore[attr-defined]
    return held


def placed_like(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor in parts as ``like`` is in parts; each rank takes its own from the copy that it has.

    Args:
        value: Whole and the same on every rank, or in parts already.
        like: Says which parts; where it is a plain tensor, the value comes back as it is.
    """
    if not is_sharded(like) or is_sharded(value):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor), "what else has a mesh"
    mesh = like.device_mesh
    return distribute_tensor(value.to(mesh.device_type), mesh, like.placements, src_data_rank=None)
