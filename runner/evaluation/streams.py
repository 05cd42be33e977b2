"""Images on their way to the metrics: each rank's share, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ...core import Cond, Dataset, DataSpec, Statistics
from ...core.sampler import Watch
from ...registry import Recipe
from ..assemble import ReferenceModel, build_sampling
from ..feed import Source, each, image_numbers
from ..generate import Generator
from ..image_sets.arrays import Arrays
from ..world import World
from .protocol import generation
from .trained import Trained


class Shown(NamedTuple):
    """A batch.

    Attributes:
        images: uint8 (B, C, H, W), on the device.
        cond: What is known of them, as the network is told it, (B, ...) by name; ``class`` among it for labels.
        numbers: Their places in the stream, 0 ... N - 1, (B,) int64 on the CPU.
        paired: The real images that they belong to, uint8 (B, C, H, W), on the device; None where nobody asked.
    """

    images: Tensor
    cond: Cond
    numbers: Tensor
    paired: Tensor | None = None


class Stream(Protocol):
    """A number of images, numbered 0 ... N - 1 in a fixed order, cut into batches that are dealt to the ranks."""

    @property
    def spec(self) -> DataSpec:
        """Of the images, in pixels."""
        ...

    @property
    def name(self) -> str:
        """What a message calls them."""
        ...

    @property
    def statistics(self) -> Statistics | None:
        """Mean and covariance that are published with them; None as a rule."""
        ...

    def __len__(self) -> int:
        """How many there are, over all ranks."""
        ...

    def batches(self, world: World, batch_size: int) -> Iterator[Shown]:
        """This rank's share, cut as `shares` cuts it."""
        ...

    def protocol(self, role: str) -> dict[str, str]:
        """What must be equal for two streams to be the same images.

        Args:
            role: What they are here: ``reference``, ``generated``, ``held_out``; keys are called after it.
        """
        ...

    def take(self, numbers: Tensor) -> Tensor:
        """Images by their places in the stream, uint8 (n, C, H, W); now."""
        ...

    def origin(self, numbers: Tensor) -> Tensor:
        """What messages call images by their places, (n,): their numbers in the set that they were chosen from."""
        ...

    def fingerprint(self) -> str | None:
        """The digest of images and conditions that stays the same from one start to the next; None of made ones."""
        ...

    def some(self, count: int) -> Stream:
        """At most ``count`` of them, chosen by a seed of its own; of two counts the larger has all of the smaller."""
        ...

    def beside(self, real: Stream | None) -> Stream:
        """The same with ``paired``: of made images those whose conditions they were told, of others those of ``real``.

        Raises:
            ValueError: It is not clear which belongs to which.
        """
        ...


def called_held_out(name: str) -> str:
    """What the images that a data set holds out are called, in protocols too."""
    return f"held-out images of {name}"


class Real:
    """The images of a data set.

    Args:
        dataset: It.
        source: Gives them.
        name: What it is called.
        seed: Chooses, where not all are wanted.
        chosen: The images that are in it, by their numbers in the data set; None is all. They are numbered anew, 0 ...
            N - 1 in this order.
        real: Gives the image that belongs to each, by its number in the data set.
    """

    def __init__(
        self,
        dataset: Dataset,
        source: Source,
        name: str,
        seed: int = 0,
        chosen: Tensor | None = None,
        real: Stream | None = None,
    ) -> None:
        self.dataset, self.source, self.name, self.seed, self.real = dataset, source, name, seed, real
        self.chosen = torch.arange(len(dataset)) if chosen is None else chosen
        self.statistics = dataset.statistics if isinstance(dataset, Arrays) and chosen is None else None

    @property
    def spec(self) -> DataSpec:
        """The data set's."""
        return self.dataset.spec

    def __len__(self) -> int:
        """All of them, or the chosen."""
        return len(self.chosen)

    def batches(self, world: World, batch_size: int) -> Iterator[Shown]:
        """Images as they are, each once."""
        batches = list(shares(len(self), world, batch_size))
        own = [self.chosen[numbers] for numbers in batches]
        for numbers, whose, (images, cond) in zip(batches, own, each(self.source, own), strict=True):
            yield Shown(images, cond, numbers, None if self.real is None else self.real.take(whose))

    def protocol(self, role: str) -> dict[str, str]:
        """Name, number and fingerprint; of what is scored, which is no part of how it was done, the shape."""
        named = {role: f"{self.name}, {len(self)} images", f"{role}.fingerprint": self.fingerprint()}
        return {**named, **(_shape(self.spec) if role == "generated" else {})}

    def take(self, numbers: Tensor) -> Tensor:
        """From the source."""
        return self.source.take(self.chosen[numbers.cpu()])[0]

    def origin(self, numbers: Tensor) -> Tensor:
        """Their numbers in the data set."""
        return self.chosen[numbers.cpu()]

    def fingerprint(self) -> str:
        """The data set's, and which of it."""
        whole = len(self) == len(self.dataset)
        return self.dataset.fingerprint() + ("" if whole else f" {len(self)} of seed {self.seed}")

    def some(self, count: int) -> Real:
        """The first of a permutation."""
        if count >= len(self):
            return self
        chosen = image_numbers(self.seed, len(self.dataset), 0, count)
        return Real(self.dataset, self.source, self.name, self.seed, chosen, self.real)

    def beside(self, real: Stream | None) -> Real:
        """Image k of the data set with image k, of two sets of the same length, whichever of them were chosen."""
        if real is None or len(real) != len(self.dataset):
            there = "no reference" if real is None else f"{len(real)} images in {real.name}"
            raise ValueError(
                f"image k is compared with image k of the reference, which must be as many: {len(self.dataset)} images "
                f"in {self.name}, {there}; give two sets of the same images"
            )
        return Real(self.dataset, self.source, self.name, self.seed, self.chosen, real)


class Generated:
    """Samples, each with the condition of a real image: the labels have the real distribution.

    Args:
        recipe: Gives sampler, seed and number.
        dataset: Whose conditions.
        source: Gives its images.
        trained: The network.
        guide: The network to guide away from, if the recipe has one.
        watch: Called after each sampling step; may raise, to stop.
        paired: Also give the real images whose conditions they are told.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        source: Source,
        trained: Trained,
        guide: ReferenceModel | None,
        watch: Watch | None = None,
        *,
        paired: bool = False,
    ) -> None:
        self.recipe, self.dataset, self.source, self.paired = recipe, dataset, source, paired
        self.trained, self.guide, self.watch = trained, guide, watch
        self.evaluations = 0  # of the network, the most that any batch took
        self.statistics = None

    @property
    def spec(self) -> DataSpec:
        """The data set's."""
        return self.dataset.spec

    @property
    def name(self) -> str:
        """The recipe's."""
        return f"samples of {self.recipe.name}"

    def __len__(self) -> int:
        """As many as the recipe wants scored."""
        return self.recipe.evaluate.images

    def batches(self, world: World, batch_size: int) -> Iterator[Shown]:
        """Made as they are asked for: image k of a seed is the same on any number of ranks."""
        seed, model = self.recipe.evaluate.seed, self.trained.model
        sampling = build_sampling(self.recipe.sampler, model.schedule, self.guide)
        maker = Generator(model, self.trained.network, sampling, world.device, self.watch)
        whose = image_numbers(seed, len(self.dataset), 0, max(len(self), 1))
        batches = list(shares(len(self), world, batch_size))
        self.evaluations = 0
        for numbers, (paired, cond) in zip(batches, self._told([whose[n] for n in batches], world), strict=True):
            made = maker.batch(seed, numbers.tolist(), cond)
            self.evaluations = max(self.evaluations, made.evaluations)
            # made in inference mode, of which nothing may stay for a metric that asks for gradients
            yield Shown(made.images.clone(), cond, made.numbers, paired)
        self.evaluations = int(world.max(torch.tensor(self.evaluations)))

    def take(self, numbers: Tensor) -> Tensor:
        """Not to be had: they are gone."""
        raise NotImplementedError("samples are not kept")

    def origin(self, numbers: Tensor) -> Tensor:
        """The same: a sample is called by its number."""
        return numbers

    def protocol(self, role: str) -> dict[str, str]:
        """How they were made; after `batches`, as only then it is known how often the network was asked."""
        made = generation(self.recipe, self.trained, self.guide, self._labels(), self.evaluations)
        return {**made, **_shape(self.spec)}

    def _labels(self) -> dict[str, str]:
        """Whose they are: pictures of two folders have other classes, in other shares, under one name."""
        if not self.spec.cond:
            return {"labels": "none"}
        name = self.recipe.dataset.name
        return {"labels": f"real distribution of {name}", "labels.fingerprint": self.dataset.fingerprint()}

    def fingerprint(self) -> str | None:
        """None: they are made anew."""
        return None

    def some(self, count: int) -> Generated:
        """Not to be had: nobody chooses among samples."""
        raise NotImplementedError("samples are made in the number that is wanted")

    def beside(self, real: Stream | None) -> Generated:
        """Sample k with the image whose condition it was told, whatever the reference is."""
        given = (self.recipe, self.dataset, self.source, self.trained, self.guide, self.watch)
        return Generated(*given, paired=True)

    def _told(self, order: Iterable[Tensor], world: World) -> Iterator[tuple[Tensor | None, Cond]]:
        """The conditions of some real images at a time, on the device; the images are read only where they must be."""
        known = None if self.paired else self.dataset.conditions()
        if known is not None:
            yield from ((None, {name: value[rows].to(world.device) for name, value in known.items()}) for rows in order)
            return
        for images, cond in each(self.source, order):
            yield images if self.paired else None, cond


def _shape(spec: DataSpec) -> dict[str, str]:
    return {"generated.shape": " x ".join(map(str, spec.shape))}


def shares(count: int, world: World, batch_size: int) -> Iterator[Tensor]:
    """This rank's numbers of 0 ... count - 1, a batch at a time: each number in one place.

    The batches are the same on any number of ranks, which take turns: in float32 what is computed of an image, a sample
    or a feature, depends in its last bits on how many lie beside it, so that values would change with the ranks.
    """
    starts = range(world.rank * batch_size, count, world.size * batch_size)
    return (torch.arange(start, min(start + batch_size, count)) for start in starts)
