"""Values: computed on rank 0 alone, of what all ranks have seen, and told to all, the mistakes too."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from ...registry import UserError
from ..console import log
from ..world import World
from .passes import Named
from .reduce import reduced

Real = Callable[[Tensor], Tensor]


class NoValue(UserError):
    """A metric gave nothing of the images that it saw."""


@dataclass(frozen=True)
class Found:
    """What came of metrics that have seen a set of images.

    Attributes:
        values: By the value's name, with the place of its metric among those that were asked; on every rank.
        pictures: uint8 (C, H, W) by name; on rank 0, elsewhere empty.
        drawn: The place of the metric of each picture.
        protocols: What each metric says must be equal for its values to be compared, by its place; on rank 0.
        errors: Why a metric gave nothing, a sentence each; on every rank.
    """

    values: dict[str, tuple[float, int]] = field(default_factory=dict)
    pictures: dict[str, Tensor] = field(default_factory=dict)
    drawn: dict[str, int] = field(default_factory=dict)
    protocols: dict[int, dict[str, str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def places(self) -> dict[str, int]:
        """The place of the metric that gave it, of each picture and value."""
        return {**self.drawn, **{name: place for name, (_, place) in self.values.items()}}

    def all(self) -> Found:
        """Itself.

        Raises:
            NoValue: A metric gave nothing; what the others gave is logged, so that it is not lost.
        """
        if self.errors and self.values:
            log.info("what could be had: %s", ", ".join(f"{name} {v:.6g}" for name, (v, _) in self.values.items()))
        if self.errors:
            raise NoValue("; ".join(self.errors))
        return self


def values_of(metrics: Sequence[Named], world: World, real: Real | None = None) -> Found:
    """The values of some metrics, in their order.

    Args:
        metrics: Each as this rank has updated it.
        world: The ranks.
        real: Gives images of the reference, for pictures; None makes no pictures.

    Raises:
        NoValue: Two metrics give a value of one name.
    """
    found = Found()
    for place, (name, metric) in enumerate(metrics):
        whole, error, values = reduced(metric, world), "", dict[str, float]()
        if whole is not None:
            found.protocols[place] = whole.protocol()
            try:
                values = _finite(whole.compute())
                pictures = whole.pictures(real) if real else {}
                found.pictures.update(pictures)
                found.drawn.update(dict.fromkeys(pictures, place))
            except (ValueError, LinAlgError) as trouble:
                error = f"{name}: {trouble}"
        error, values = world.tell((error, values))
        if error:
            found.errors.append(error)
        for value_name, value in values.items():
            if value_name in found.values:
                raise NoValue(f"two metrics give a value called {value_name}; leave one of them out")
            found.values[value_name] = (value, place)
    return found


def _finite(values: dict[str, float]) -> dict[str, float]:
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}, of images whose features are all finite; is it defined for them?")
    return {name: float(value) for name, value in values.items()}
