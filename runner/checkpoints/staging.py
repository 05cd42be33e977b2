"""A copy of the tensors in the host's memory, to be written while training goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from ...core.shards import local
from .layout import Tensors

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


class Staging:
    """Holds one copy; its memory is used again for the next.

    On a GPU the memory is pinned, so that the copy takes the way that waits for nothing but the bus.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], Tensor] = {}
        self._mesh: DeviceMesh | None = None

    def take(self, groups: Mapping[str, Tensors], ranks: dist.ProcessGroup | None) -> dict[str, Tensors]:
        """Copy; when it returns, the tensors may change.

        Args:
            groups: Whole tensors, or this rank's parts (DTensor).
            ranks: All ranks, on the CPU; None where nothing is in parts.
        """
        taken: dict[str, Tensors] = {}
        for name, group in groups.items():
            taken[name] = {key: self._copy(name, key, value, ranks) for key, value in group.items()}
        if any(value.is_cuda for group in groups.values() for value in group.values()):
            torch.cuda.current_stream().synchronize()
        return taken

    def _copy(self, group: str, key: str, value: Tensor, ranks: dist.ProcessGroup | None) -> Tensor:
        value = value.detach()
        part = local(value)
        held = self._held.get((group, key))
        if held is None or held.shape != part.shape or held.dtype != part.dtype:
            held = torch.empty(part.shape, dtype=part.dtype, pin_memory=part.is_cuda)
            self._held[group, key] = held
        held.copy_(part, non_blocking=True)
        if part is value:
            return held
        from . import shards

        assert ranks is not None, "parts are written together"
        self._mesh = self._mesh or shards.mesh_on_host(ranks)
        return shards.on_host(held, value, self._mesh)  # type: ignore[arg-type]
