"""The network, raw: it sees c_in x and a noise label, and knows nothing of schedules, predictions or guidance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from .spec import DataSpec


class Backbone(nn.Module, ABC):
    """A network F(x, noise, cond).

    The constructor of a subclass is ``__init__(self, spec, *, options...)``: the runner gives the spec, the recipe the
    options. A table of classes has ``spec.null_class + 1`` rows, the last for "no class".

    Args:
        spec: What the network sees.
    """

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.spec = spec

    @abstractmethod
    def forward(self, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """Apply the network.

        Args:
            x: (B, C, *size), of unit variance or near it.
            noise: (B,) float32 (float64 for a float64 x), the level's label: 0 to 1000, or 250 ln sigma for edm.
            cond: The inputs of ``spec.cond``; ``class`` is (B,) int64 in 0 ... K, K meaning none.

        Returns:
            (B, C or more, *size); channels beyond C are extras for objectives that ask for them.
        """

    def blocks(self) -> list[nn.Module]:
        """The unit of sharding, block compilation and activation checkpointing: the longest ModuleList there is."""
        lists = [list(m) for m in self.modules() if isinstance(m, nn.ModuleList)]
        return max(lists, key=len, default=[])

    def facts(self) -> dict[str, str]:
        """What a run notes of the built network beside its options, such as an implementation chosen for the device.

        Returns:
            Texts by name, asked when the weights are on the device that they are used on. A run notes each as
            ``network.NAME``; ``parameters``, their number, is its own.
        """
        return {}
