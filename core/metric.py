"""Metrics: state that adds up over images, over batches and over ranks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from .codec import Codec
from .denoiser import Denoiser
from .spec import DataSpec

Reduce = Literal["sum", "min", "max", "cat"]
Need = Literal["reference", "held_out", "pairs", "model"]


class ScoredModel(NamedTuple):
    """The model that is scored.

    Attributes:
        denoiser: Unguided; it has the schedule.
        codec: Between pixels and the network's x.
    """

    denoiser: Denoiser
    codec: Codec


class Metric(ABC):
    """Declares states, updates them with images, computes numbers from them.

    The runner, never the metric, moves states to the device, reduces them over ranks and merges ``cat`` states in the
    order of the image index. Ranks hold disjoint images, each counted once.

    Attributes:
        needs: ``reference`` also streams the real images, before the generated ones, with ``real=True``; ``held_out``
            streams images that the model was not trained on, with ``real=True``, and no generated ones; ``pairs`` adds
            ``paired=``, the real image that a generated one belongs to, uint8 (B, C, H, W); ``model`` adds ``model=``,
            a `ScoredModel`.
        least_reference: The fewest images that the reference may have.
        held_out_images: How many of the held-out images it wants at most, chosen by the evaluation's seed; None is
            all of them.
        better: Which way values are better, by their names or what names begin with; the longest that fits counts.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    least_reference: ClassVar[int] = 1
    held_out_images: int | None = None
    better: ClassVar[Mapping[str, Literal["lower", "higher"]]] = {}

    def __init__(self) -> None:
        self._reduce: dict[str, Reduce] = {}
        self._first: dict[str, Tensor] = {}

    def add_state(self, name: str, value: Tensor, reduce: Reduce) -> None:
        """Declare the attribute ``name``, starting at ``value``.

        Args:
            name: Attribute to be; a ``cat`` state also gets ``<name>_index``.
            value: Start; for ``cat`` an empty tensor (0, ...), filled by `append`.
            reduce: How states of two ranks become one.
        """
        if reduce not in ("sum", "min", "max", "cat"):
            raise ValueError(f"state `{name}`: reduce is sum, min, max or cat; got {reduce!r}")
        self._reduce[name] = reduce
        self._first[name] = value.clone()
        setattr(self, name, value.clone())
        if reduce == "cat":
            setattr(self, f"{name}_index", torch.zeros(0, dtype=torch.int64))

    def append(self, name: str, rows: Tensor, index: Tensor | None) -> None:
        """Add (B, ...) rows to a ``cat`` state; ``index``, (B,), says which images they belong to."""
        held: Tensor = getattr(self, name)
        held_index: Tensor = getattr(self, f"{name}_index")
        where = index if index is not None else torch.arange(len(held), len(held) + len(rows))
        setattr(self, name, torch.cat([held.to(rows.device), rows]))
        setattr(self, f"{name}_index", torch.cat([held_index, where.cpu()]))

    def states(self) -> Mapping[str, Reduce]:
        """The declared states and how each is reduced."""
        return dict(self._reduce)

    def reset(self) -> None:
        """Back to the start, on the CPU."""
        for name, reduce in self._reduce.items():
            self.add_state(name, self._first[name], reduce)

    def to(self, device: torch.device) -> Metric:
        """Move the states, and what else a metric holds, to ``device``."""
        for name in self._reduce:
            setattr(self, name, getattr(self, name).to(device))
        return self

    def check(self, spec: DataSpec, images: int) -> None:
        """Accept ``images`` images of ``spec``.

        Raises:
            ValueError: When the metric cannot be had of them; asked before the long work starts.
        """
        return None

    def cautions(self, spec: DataSpec, images: int) -> list[str]:
        """What a reader of the values should know that is no reason to refuse, in sentences; said beside the values.

        Args:
            spec: Of the images, in pixels.
            images: How many are generated.
        """
        return []

    def reference_key(self) -> dict[str, str]:
        """What the states of a pass over the reference depend on besides the reference: equal keys, equal states.

        The runner keeps those states; metrics that need the same ones may share them by giving the same key.
        """
        return {"metric": f"{type(self).__module__}.{type(self).__qualname__}", **self.protocol()}

    def protocol(self) -> dict[str, str]:
        """What of the metric itself must be equal for two values to be compared."""
        return {}

    @abstractmethod
    def update(
        self,
        images: Tensor,
        *,
        real: bool = False,
        labels: Tensor | None = None,
        index: Tensor | None = None,
        **later: Any,
    ) -> None:
        """Take in images.

        Args:
            images: uint8 (B, C, H, W) on the device.
            real: Whether they are of the reference.
            labels: (B,) int64, where known.
            index: (B,) int64, their numbers in the whole set.
            later: ``cond``, what the network was told of them, (B, ...) by name, and what ``needs`` asks for; fields
                are added over time, never removed.
        """

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The values, from states reduced over all ranks.

        Raises:
            ValueError: They cannot be had of what was seen.
        """

    def pictures(self, real: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """Pictures that say more than the numbers, uint8 (C, H, W) by name.

        Args:
            real: Gives images of the reference, uint8 (n, C, H, W), by their numbers, (n,).
        """
        return {}
