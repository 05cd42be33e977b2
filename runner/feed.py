"""The order of the images: a pure function of (seed, images seen), the same for any number of ranks.

Each epoch is a fresh permutation; batches run over the end of an epoch into the next, so no image is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..core import Augmentation, Dataset, generator
from .world import World


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, count: int) -> Tensor:
    """The permutation of epoch ``epoch``, (count,)."""
    return torch.randperm(count, generator=generator(seed, "order", epoch))


def image_numbers(seed: int, count: int, start: int, length: int) -> Tensor:
    """Which images come at places ``start`` ... ``start + length - 1`` of the endless row of epochs, (length,)."""
    parts = []
    while length > 0:
        epoch, place = divmod(start, count)
        taken = epoch_order(seed, epoch, count)[place : place + length]
        parts.append(taken)
        start, length = start + len(taken), length - len(taken)
    return torch.cat(parts)


@dataclass(frozen=True)
class Batch:
    """A rank's share of a global batch.

    Attributes:
        images: uint8 (b, C, H, W), on the device; where ``encoded``, the codec's moments of them, (b, *moment_shape).
        cond: Conditioning, likewise.
        numbers: Which images they are, (b,).
        encoded: Whether they have gone through the codec already.
    """

    images: Tensor
    cond: dict[str, Tensor]
    numbers: Tensor
    encoded: bool = False


class Feed:
    """Gives each rank its share of every batch.

    A data set that gives `tensors` lives on the device as uint8; any other is read item by item.

    Args:
        dataset: The images.
        seed: The recipe's.
        batch_size: Global; a multiple of the number of ranks.
        world: Whose share.
        augmentations: Change images at random, one after the other, on the device; their labels join the conditioning.
    """

    def __init__(
        self, dataset: Dataset, seed: int, batch_size: int, world: World, augmentations: Sequence[Augmentation] = ()
    ) -> None:
        self.dataset, self.seed, self.batch_size, self.world = dataset, seed, batch_size, world
        self.augmentations = augmentations
        held = dataset.tensors()
        self.held = None if held is None else (held[0].to(world.device), _on(held[1], world.device))

    def batch(self, images_seen: int) -> Batch:
        """The batch that starts after ``images_seen`` images."""
        share = self.world.share_of(self.batch_size)
        numbers = self.numbers(images_seen)[share]
        images, cond = self.read(numbers)
        for place, change in enumerate(self.augmentations):
            # drawn for the whole global batch: a shorter draw would give other numbers on another number of ranks
            random = generator(self.seed, f"augment {place}", images_seen)
            draws = torch.rand(self.batch_size, change.draws, generator=random)[share]
            images, label = change(images, draws.to(images.device))
            if change.label is not None and label is not None:
                cond[change.label[0]] = label
        return Batch(images, cond, numbers)

    def numbers(self, images_seen: int) -> Tensor:
        """Which images the global batch after ``images_seen`` images has, (batch_size,)."""
        return image_numbers(self.seed, len(self.dataset), images_seen, self.batch_size)

    def read(self, numbers: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Images, uint8 (b, C, H, W), and conditioning of the given numbers, on the device."""
        if self.held is not None:
            where = numbers.to(self.world.device)
            return self.held[0][where], {name: value[where] for name, value in self.held[1].items()}
        examples = [self.dataset[int(i)] for i in numbers]
        cond = {name: torch.stack([torch.as_tensor(e.cond[name]) for e in examples]) for name in self.dataset.spec.cond}
        return torch.stack([e.image for e in examples]).to(self.world.device), _on(cond, self.world.device)


def _on(cond: object, device: torch.device) -> dict[str, Tensor]:
    assert hasattr(cond, "items")
    return {name: value.to(device) for name, value in cond.items()}
