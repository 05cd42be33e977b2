"""What a data set gives and a network sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor


@dataclass(frozen=True)
class CondSpec:
    """One conditioning input.

    Attributes:
        kind: ``class`` is an index (B,) int64; ``vector`` is (B, *shape) float; ``tokens`` is (B, L, D) float.
        shape: Shape of one image's value; () for a class.
        neutral: Zeros say that there is nothing special, as with the label of an augmentation: they are filled in where
            no value is given, and the value is never dropped, neither in training nor for guidance.
    """

    kind: Literal["class", "vector", "tokens"]
    shape: tuple[int, ...] = ()
    neutral: bool = False

    def __post_init__(self) -> None:
        if self.neutral and self.kind == "class":
            raise ValueError("a class is not neutral: index 0 is the first class; make it a vector")


@dataclass(frozen=True)
class DataSpec:
    """What the network sees: pixels, or latents where a codec makes them.

    Attributes:
        shape: (C, *size) of one image.
        classes: Names of the classes; empty for unlabelled data.
        cond: The conditioning inputs by name; ``class`` is added for labelled data.
    """

    shape: tuple[int, ...]
    classes: tuple[str, ...] = ()
    cond: Mapping[str, CondSpec] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.shape) < 2 or min(self.shape) < 1:
            raise ValueError(f"a DataSpec's shape is (channels, *size), all at least 1; got {self.shape}")
        if self.classes and "class" not in self.cond:
            object.__setattr__(self, "cond", {"class": CondSpec("class"), **self.cond})
        if "class" in self.cond and not self.classes:
            raise ValueError("a DataSpec with a `class` input names its classes; got none")

    @property
    def droppable(self) -> bool:
        """Whether there is a condition that label dropout and guidance can leave out: one that is not neutral."""
        return any(not one.neutral for one in self.cond.values())

    @property
    def null_class(self) -> int:
        """The index that means "no class": one past the last, so a backbone's table has ``null_class + 1`` rows."""
        return len(self.classes)


@dataclass(frozen=True)
class Example:
    """One item of a data set.

    Attributes:
        image: uint8 (C, H, W).
        cond: Values by name; ``class`` is a 0-d int64 tensor.
    """

    image: Tensor
    cond: Mapping[str, Tensor] = field(default_factory=dict)
