"""Random changes of training images, made anew whenever an image comes up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from .spec import CondSpec, DataSpec


class Augmentation(ABC):
    """Changes images at random: a pure function of the images and of uniform numbers.

    A subclass sets ``draws`` and writes ``__call__``. One that tells the network what was done also sets ``label``: an
    input that is ``neutral``, zeros meaning that nothing was done. Sampling then gives zeros, and the changes do not
    leak into samples.

    Args:
        spec: Of the data, in pixels.

    Attributes:
        label: What the network is told, by name; None: nothing.
        draws: Uniform numbers that an image needs.
        mirrors: Whether it does nothing but mirror images left to right, of any size and by the draws alone, so that
            latents of both can be kept.
    """

    label: tuple[str, CondSpec] | None = None
    draws: int = 0
    mirrors: bool = False

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec

    @abstractmethod
    def __call__(self, images: Tensor, draws: Tensor) -> tuple[Tensor, Tensor | None]:
        """The changed images, and what was done to them.

        Must not wait for the device: no ``.item()``, no shape that depends on values.

        Args:
            images: uint8 (B, C, H, W).
            draws: Uniform in [0, 1), float (B, draws), on the same device.

        Returns:
            uint8 (B, C, H, W), and the label, float32 (B, *shape), or None where there is no ``label``.
        """


def with_labels(spec: DataSpec, augmentations: Sequence[Augmentation]) -> DataSpec:
    """The spec of data changed by ``augmentations``: their labels are conditions like those of the data.

    Raises:
        ValueError: Two of them, or one and the data, name a condition alike.
    """
    cond = dict(spec.cond)
    for name, label in (one.label for one in augmentations if one.label is not None):
        if name in cond:
            raise ValueError(
                f"the condition `{name}` is there already: of the data, or of another augmentation; leave one out"
            )
        cond[name] = label
    return replace(spec, cond=cond)
