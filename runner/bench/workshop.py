"""What the contests of `dmf bench data` share: the data, our way from it to x, files made when first asked for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ...core import Augmentation, Codec, Dataset
from ...files.places import data_folder
from ...registry import UserError, build
from ...registry.recipe_types import Loading
from ...testing.bench.data import Conditions, Side
from ...testing.bench.data_files import BATCH, draw_jpegs, write_pngs
from ...testing.bench.data_theirs import batches
from ..console import TaskProgress
from ..feed import Feed, source_of
from ..world import World

Tick = Callable[[], None]
SEED = 0


@dataclass(frozen=True)
class Sizes:
    """How much is made and read.

    Attributes:
        files: PNG files of the contest `start`.
        streamed: PNG files that are streamed.
        jpegs: JPEG files of the contest `prepare`, where no pictures are given.
        jpeg_px: Their side.
        step_batch: Images of a training step; None is as in the recipe.
        steps: Training steps.
    """

    files: int = 100_000
    streamed: int = 10_000
    jpegs: int = 4000
    jpeg_px: int = 128
    step_batch: int | None = 8
    steps: int = 5


USUAL = Sizes()


class Workshop:
    """Where contests are held.

    Args:
        under: Device, batch, rounds.
        scratch: A folder for what is made.
        root: Folder of the data sets; None is DMF_DATA, or ``data``.
        given: Folder of pictures for `prepare`; None draws some.
        sizes: How much.
    """

    def __init__(
        self, under: Conditions, scratch: Path, root: str | None = None, given: Path | None = None, sizes: Sizes = USUAL
    ) -> None:
        self.under, self.scratch, self.given, self.sizes = under, scratch, given, sizes
        self.root = data_folder(root)
        self.world = World(0, 1, under.device)

    @cached_property
    def cifar(self) -> Dataset:
        """CIFAR-10, in memory.

        Raises:
            UserError: It is not there.
        """
        dataset: Dataset = build("dataset", "cifar10", root=str(self.root), download=False)
        return dataset

    def check(self) -> None:
        """Accept what is given, before the long work.

        Raises:
            UserError: CIFAR-10 or the folder of pictures is not there.
        """
        if self.given is not None and not self.given.is_dir():
            raise UserError(f"--pictures {self.given}: there is no such folder")
        len(self.cifar)

    def augmentation(self, name: str, **options: Any) -> Augmentation:
        """One for the images of CIFAR-10."""
        made: Augmentation = build("augmentation", name, self.cifar.spec, **options)
        return made

    def png_folder(self, count: int) -> Path:
        """A folder with so many PNG files of CIFAR-10's images, a folder a class."""
        held = self.cifar.tensors()
        assert held is not None
        return self._made(f"png-{count}", count, partial(write_pngs, held[0], count))

    def pictures(self) -> Path:
        """The folder of pictures for `prepare`."""
        count, side = self.sizes.jpegs, self.sizes.jpeg_px
        return self.given or self._made(f"jpeg-{count}", count, partial(draw_jpegs, count, side))

    def _made(self, name: str, count: int, make: Callable[[Path, Tick], object]) -> Path:
        folder = self.scratch / name
        if not folder.exists():
            with TaskProgress(f"make {count} files", -(-count // BATCH)) as bar:
                make(folder, bar.step)
        return folder

    def streamed_set(self) -> Dataset:
        """PNG files that are read while training."""
        made: Dataset = build("dataset", "image_folder", **self.streamed_options())
        return made

    def streamed_options(self) -> dict[str, Any]:
        """Of `image_folder`, for that."""
        root, side = str(self.png_folder(self.sizes.streamed)), self.cifar.spec.shape[-1]
        return {"root": root, "size": side, "memory_gib": 0}

    def ours(self, name: str, dataset: Dataset, **loading: Any) -> Side:
        """A side: the feed of a training with flips, and the codec behind it."""
        return Side(name, partial(self._delivered, dataset, Loading(**loading)))

    def theirs(self, name: str, dataset: Any) -> Side:
        """A side: a loader of torch."""
        return Side(name, partial(batches, dataset, self.under.batch, self.under.device))

    def _delivered(self, dataset: Dataset, loading: Loading) -> Generator[int]:
        batch, device = self.under.batch, self.under.device
        codec: Codec = build("codec", "pixels", dataset.spec)
        source = source_of(dataset, device, loading)
        feed = Feed(dataset, SEED, batch, self.world, (self.augmentation("flip"),), source=source)
        try:
            for images_seen in itertools.count(0, batch):
                yield len(codec.encode(feed.batch(images_seen).images))
        finally:
            feed.close()
