"""Images on their way to the metrics: each rank's share, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ...core import Cond, Dataset, DataSpec
from ...core.sampler import Watch
from ...registry import Recipe
from ..assemble import ReferenceModel, build_sampling
from ..feed import Source, each, image_numbers
from ..generate import Generator
from ..world import World
from .protocol import generation
from .trained import Trained


class Shown(NamedTuple):
    """A batch.

    Attributes:
        images: uint8 (B, C, H, W), on the device.
        cond: What is known of them, as the network is told it, (B, ...) by name; ``class`` among it for labels.
        numbers: Which of the stream they are, (B,) int64 on the CPU.
        paired: The real images that they belong to, (B, C, H, W); None where they belong to none.
    """

    images: Tensor
    cond: Cond
    numbers: Tensor
    paired: Tensor | None = None


class Stream(Protocol):
    """A number of images, in a fixed order; each rank sees every ``world.size``-th of them."""

    @property
    def spec(self) -> DataSpec:
        """Of the images, in pixels."""
        ...

    def __len__(self) -> int:
        """How many there are, over all ranks."""
        ...

    def batches(self, world: World, batch_size: int) -> Iterator[Shown]:
        """This rank's share; ``batch_size`` over all ranks together."""
        ...

    def protocol(self) -> dict[str, str]:
        """What must be equal for two streams to be the same images."""
        ...


class Real:
    """The images of a data set.

    Args:
        dataset: It.
        source: Gives them.
        name: What it is called.
    """

    def __init__(self, dataset: Dataset, source: Source, name: str) -> None:
        self.dataset, self.source, self.name = dataset, source, name

    @property
    def spec(self) -> DataSpec:
        """The data set's."""
        return self.dataset.spec

    def __len__(self) -> int:
        """All of them."""
        return len(self.dataset)

    def batches(self, world: World, batch_size: int) -> Iterator[Shown]:
        """Images as they are, each once."""
        batches = list(shares(len(self), world, batch_size))
        for numbers, (images, cond) in zip(batches, each(self.source, batches), strict=True):
            yield Shown(images, cond, numbers)

    def protocol(self) -> dict[str, str]:
        """Name, number and fingerprint."""
        return {
            "reference": f"{self.name}, {len(self)} images",
            "reference.fingerprint": self.dataset.fingerprint(),
        }


class Generated:
    """Samples, each with the condition of a real image: the labels have the real distribution.

    Args:
        recipe: Gives sampler, seed and number.
        dataset: Whose conditions.
        source: Gives its images.
        trained: The network.
        reference: The network to guide away from, if the recipe has one.
        watch: Called after each sampling step; may raise, to stop.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        source: Source,
        trained: Trained,
        reference: ReferenceModel | None,
        watch: Watch | None = None,
    ) -> None:
        self.recipe, self.dataset, self.source = recipe, dataset, source
        self.trained, self.reference, self.watch = trained, reference, watch
        self.evaluations = 0  # of the network, the most that any batch of this rank took

    @property
    def spec(self) -> DataSpec:
        """The data set's."""
        return self.dataset.spec

    def __len__(self) -> int:
        """As many as the recipe wants scored."""
        return self.recipe.evaluate.images

    def batches(self, world: World, batch_size: int) -> Iterator[Shown]:
        """Made as they are asked for: image k of a seed is the same on any number of ranks."""
        seed, model = self.recipe.evaluate.seed, self.trained.model
        sampling = build_sampling(self.recipe.sampler, model.schedule, self.reference)
        maker = Generator(model, self.trained.network, sampling, world.device, self.watch)
        whose = image_numbers(seed, len(self.dataset), 0, max(len(self), 1))
        batches = list(shares(len(self), world, batch_size))
        for numbers, cond in zip(batches, self._told((whose[n] for n in batches), world), strict=True):
            made = maker.batch(seed, numbers.tolist(), cond)
            self.evaluations = max(self.evaluations, made.evaluations)
            yield Shown(made.images, cond, made.numbers)

    def protocol(self) -> dict[str, str]:
        """How they were made; after `batches`, as only then it is known how often the network was asked."""
        return generation(self.recipe, self.trained, self.reference, bool(self.spec.classes), self.evaluations)

    def _told(self, order: Iterable[Tensor], world: World) -> Iterator[Cond]:
        """The conditions of some real images at a time, on the device; the images are read only where they must be."""
        known = self.dataset.conditions()
        if known is None:
            yield from (cond for _, cond in each(self.source, order))
        else:
            yield from ({name: value[rows].to(world.device) for name, value in known.items()} for rows in order)


def shares(count: int, world: World, batch_size: int) -> Iterator[Tensor]:
    """This rank's numbers of 0 ... count - 1, a batch at a time: disjoint, each in one place."""
    mine, size = torch.arange(world.rank, count, world.size), max(1, batch_size // world.size)
    return (mine[start : start + size] for start in range(0, len(mine), size))
