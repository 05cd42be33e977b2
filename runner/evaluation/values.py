"""Values: computed on rank 0 alone, of what all ranks have seen, and told to all, the mistakes too."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...files.words import brief
from ...registry import UserError
from ..world import World
from .passes import Named
from .reduce import reduced
from .trouble import why

Real = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Found:
    """What came of metrics that have seen a set of images.

    Attributes:
        values: By the value's name, with the place of its metric among those that were asked; on every rank.
        pictures: uint8 (C, H, W) by name; on rank 0, elsewhere empty.
        drawn: The place of the metric of each picture.
        protocols: What each metric says must be equal for its values to be compared, by its place; on rank 0.
        errors: Why something is missing, a sentence each; on every rank.
        complete: Whether the metrics saw all images.
    """

    values: dict[str, tuple[float, int]] = field(default_factory=dict)
    pictures: dict[str, Tensor] = field(default_factory=dict)
    drawn: dict[str, int] = field(default_factory=dict)
    protocols: dict[int, dict[str, str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    complete: bool = True

    def places(self) -> dict[str, int]:
        """The place of the metric that gave it, of each picture and value."""
        return {**self.drawn, **{name: place for name, (_, place) in self.values.items()}}


def values_of(
    metrics: Sequence[Named], world: World, real: Real | None = None, failed: Mapping[int, str] | None = None
) -> Found:
    """The values of some metrics, in their order; one that gives none takes nothing from the others.

    Args:
        metrics: Each as this rank has updated it.
        world: The ranks.
        real: Gives images of the reference, for pictures; None makes no pictures.
        failed: Why some have none, by their places; the same on every rank.
    """
    found = Found()
    for place, one in enumerate(metrics):
        if failed and place in failed:
            found.errors.append(failed[place])
            continue
        error, values = world.tell(_computed(one, place, world, real, found))
        if error:
            found.errors.append(f"{one.name}: {error}")
        for value_name, value in values.items():
            if value_name in found.values:
                first = metrics[found.values[value_name][1]].name
                found.errors.append(
                    f"two metrics give a value called {value_name}; it is that of {first}, and that of {one.name} is "
                    "lost: leave one of them out"
                )
            else:
                found.values[value_name] = (value, place)
    return found


def _computed(one: Named, place: int, world: World, real: Real | None, found: Found) -> tuple[str, dict[str, float]]:
    """What is wrong, and the values, on rank 0; what else comes of it goes into ``found``."""
    try:
        whole = reduced(one.metric, world)
    except UserError as error:  # on every rank
        return str(error), {}
    if whole is None:
        return "", {}
    try:
        found.protocols[place] = one.protocol(whole)
        values = _finite(whole.compute())
        pictures = _drawn(whole.pictures(real)) if real else {}
    except Exception as error:
        return why(error), {}
    found.pictures.update(pictures)
    found.drawn.update(dict.fromkeys(pictures, place))
    return "", values


def _drawn(pictures: dict[str, Tensor]) -> dict[str, Tensor]:
    """The pictures, whose names are to be those of files."""
    for name, picture in pictures.items():
        if not (isinstance(name, str) and name.isprintable() and Path(name).name == name.strip() not in ("", "..")):
            raise ValueError(f"pictures() gave one called {brief(repr(name))}; expected a name that a file can have")
        if not (isinstance(picture, Tensor) and picture.dtype == torch.uint8 and picture.ndim == 3):
            raise ValueError(f"pictures() gave no uint8 tensor (C, H, W) for {name}")
    return pictures


def _finite(values: dict[str, float]) -> dict[str, float]:
    """The values as numbers; a metric may be a stranger's."""
    if not isinstance(values, Mapping):
        raise ValueError(f"compute() gave {brief(repr(values))}; expected numbers by their names")
    found: dict[str, float] = {}
    for name, value in values.items():
        if not (isinstance(name, str) and name.isprintable() and name.strip()):
            raise ValueError(f"compute() gave a value called {brief(repr(name))}; expected a name in one line")
        lone = value.item() if isinstance(value, Tensor | np.ndarray) and math.prod(value.shape) == 1 else value
        if not isinstance(lone, numbers.Real) or isinstance(lone, bool):
            raise ValueError(f"compute() gave {brief(repr(value))} for {name}; expected a number")
        found[name] = float(lone)
        if not math.isfinite(found[name]):
            raise ValueError(f"{name} is {value}, of images whose features are all finite; is it defined for them?")
    return found
