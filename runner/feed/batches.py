"""A rank's share of every batch: the order, the rows, the augmentations."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...core import Augmentation, Dataset, generator
from ...registry import UserError
from ..world import LocalError, World
from .choice import source_of
from .moving import there
from .order import image_numbers
from .source import Rows, Source


@dataclass(frozen=True)
class Batch:
    """A rank's share of a global batch.

    Attributes:
        images: uint8 (b, C, H, W), on the device; where ``encoded``, the codec's moments of them, (b, *moment_shape).
        cond: Conditioning, likewise.
        numbers: Which images they are, (b,), on the CPU.
        encoded: Whether they have gone through the codec already.
        wait_s: How long the caller waited for it. On a GPU that is the host's time: what the GPU has to do for it, the
            gather and the augmentations, is only put in its queue.
    """

    images: Tensor
    cond: dict[str, Tensor]
    numbers: Tensor
    encoded: bool = False
    wait_s: float = 0.0


class Feed:
    """Gives each rank its share of every batch, in the order of (seed, images seen).

    Batches are asked for one after the other; any other one may be asked for too, and then the reading ahead starts
    anew from there.

    Args:
        dataset: The images.
        seed: The recipe's.
        batch_size: Global; a multiple of the number of ranks.
        world: Whose share.
        augmentations: Change images at random, one after the other, on the device; their labels join the conditioning.
        source: Gives the rows; None is `source_of` the data set with the defaults of `loading`.
    """

    def __init__(
        self,
        dataset: Dataset,
        seed: int,
        batch_size: int,
        world: World,
        augmentations: Sequence[Augmentation] = (),
        *,
        source: Source | None = None,
    ) -> None:
        self.dataset, self.seed, self.batch_size, self.world = dataset, seed, batch_size, world
        self.augmentations = augmentations
        self.source = source or source_of(dataset, world.device)
        self._stream: Generator[Rows] | None = None
        self._asked: deque[Tensor] = deque()  # numbers of what the stream has been asked for and has not given
        self._next = -1

    def batch(self, images_seen: int) -> Batch:
        """The batch that starts after ``images_seen`` images.

        Raises:
            LocalError: An image of this rank's share cannot be read.
        """
        began = time.perf_counter()
        (images, cond), numbers = self._rows(images_seen)
        for place, change in enumerate(self.augmentations):
            images, label = change(images, self._draws(place, change.draws, images_seen))
            if change.label is not None and label is not None:
                cond[change.label[0]] = label
        return Batch(images, cond, numbers, wait_s=time.perf_counter() - began)

    def numbers(self, images_seen: int) -> Tensor:
        """Which images the global batch after ``images_seen`` images has, (batch_size,)."""
        return image_numbers(self.seed, len(self.dataset), images_seen, self.batch_size)

    def read(self, numbers: Tensor) -> Rows:
        """Images, uint8 (b, C, H, W), and conditioning of the given numbers, on the device; as they are, and now."""
        return self.source.take(numbers)

    def close(self) -> None:
        """End what reads ahead; the next batch starts it anew."""
        if self._stream is not None:
            self._stream.close()
        self._stream, self._next = None, -1

    def _rows(self, images_seen: int) -> tuple[Rows, Tensor]:
        if images_seen != self._next or self._stream is None:
            self.close()
            self._asked = deque()
            self._stream = self.source.stream(self._order(images_seen, self._asked))
        self._next = -1  # until it is there: one that fails is no stream to go on with
        try:
            rows = next(self._stream)
        except UserError as error:
            raise LocalError(str(error)) from error
        self._next = images_seen + self.batch_size
        return rows, self._asked.popleft()

    def _order(self, start: int, asked: deque[Tensor]) -> Iterator[Tensor]:
        """The rank's share of this batch and all later ones."""
        share = self.world.share_of(self.batch_size)
        for images_seen in itertools.count(start, self.batch_size):
            numbers = self.numbers(images_seen)[share]
            asked.append(numbers)
            yield numbers

    def _draws(self, place: int, count: int, images_seen: int) -> Tensor:
        """Uniform numbers of the augmentation at ``place``, (b, count), on the device."""
        return there(self._drawn(place, count, images_seen), self.world.device)

    def _drawn(self, place: int, count: int, images_seen: int) -> Tensor:
        # drawn for the whole global batch: a shorter draw would give other numbers on another number of ranks
        random = generator(self.seed, f"augment {place}", images_seen)
        return torch.rand(self.batch_size, count, generator=random)[self.world.share_of(self.batch_size)]
