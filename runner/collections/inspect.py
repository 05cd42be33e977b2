"""Looks through a collection of pictures or a data set, all of it, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from ...core import Dataset
from ...files.collection import endings
from ...files.pictures import decode, square
from ...files.threads import in_order
from ..console import TaskProgress
from ..signals import Signals
from .look import GREY, Look, look_at_file, look_at_images
from .samples import sheet_of
from .sources import Item, Sources

FLAT = 2.0  # deviation of pixels, of 255, below which a picture is nearly of one colour
IMAGES_TOGETHER = 256


@dataclass
class Findings:
    """What was found.

    Attributes:
        what: What was looked through, in words.
        classes: Names; empty for unlabelled data.
        size: What pictures were scaled and cut to for the means; 0 for images as they are.
        bytes: Of the files; 0 where that is not known.
        looks: One a picture, in order.
        others: Endings of files that are no pictures.
    """

    what: str
    classes: tuple[str, ...]
    size: int = 0
    bytes: int = 0
    looks: list[Look] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    @property
    def usable(self) -> list[Look]:
        """The pictures that can be used."""
        return [look for look in self.looks if not look.trouble]

    @property
    def unusable(self) -> list[Look]:
        """The others."""
        return [look for look in self.looks if look.trouble]

    def labels(self) -> dict[str, int]:
        """Pictures of each class."""
        counts = Counter(look.label for look in self.usable)
        return {name: counts[name] for name in self.classes}

    def sides(self) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """(N, 2): width and height of each."""
        return np.array([look.size for look in self.usable], dtype=np.int64).reshape(-1, 2)

    def moments(self) -> list[tuple[float, float]]:
        """Mean and standard deviation of each channel over all pixels of all pictures, 0 to 255."""
        means = np.array([look.means for look in self.usable]).mean(0)
        squares = np.array([look.squares for look in self.usable]).mean(0)
        deviations = np.sqrt(np.maximum(squares - means**2, 0))
        return list(zip(means.tolist(), deviations.tolist(), strict=True))

    def duplicates(self) -> list[list[Look]]:
        """Pictures that decode to the same pixels, together; each group in order."""
        groups: dict[str, list[Look]] = {}
        for look in self.usable:
            groups.setdefault(look.pixels, []).append(look)
        return [group for group in groups.values() if len(group) > 1]

    def flat(self) -> list[Look]:
        """Pictures nearly of one colour."""
        return [look for look in self.usable if look.deviation < FLAT]

    @property
    def all_grey(self) -> bool:
        """Whether none has colours."""
        usable = self.usable
        return bool(usable) and all(look.mode in GREY or len(look.means) == 1 for look in usable)


def inspect_files(root: Path, labels: str, size: int, workers: int) -> tuple[Findings, Tensor | None]:
    """Look through a folder or a zip.

    Args:
        root: Where.
        labels: How it is labelled: see `dmf.files.collection.open_collection`.
        size: Pictures are scaled and cut to this for means and sheet.
        workers: Threads.

    Returns:
        What was found, and a sheet of samples, uint8 (3, H, W); None if there are none.
    """
    sources = Sources([root], labels)
    (collection,) = sources.collections
    total = sum(entry.size for entry in collection.entries)
    found = Findings(str(root), sources.classes, size, total, others=endings(collection.others))
    many = in_order(lambda item: look_at_file(item, size), sources.items, workers)
    found.looks = list(_watched(many, len(sources.items)))

    def image(k: int) -> Tensor:
        item: Item = sources.items[k]
        assert item.entry is not None
        return square(decode(item.collection.read(item.entry), item.name, "RGB").picture, size)

    return found, _sheet(found, image)


def inspect_dataset(dataset: Dataset, what: str, workers: int) -> tuple[Findings, Tensor | None]:
    """Look through the images of a data set.

    Args:
        dataset: All of it is looked at.
        what: What it is called.
        workers: Threads.

    Returns:
        What was found, and a sheet of samples, uint8 (3, H, W); None of images that are no pictures.
    """
    found = Findings(what, dataset.spec.classes)
    found.looks += [Look(one.name, trouble=one.reason) for one in dataset.left_out]
    parts = [range(k, min(k + IMAGES_TOGETHER, len(dataset))) for k in range(0, len(dataset), IMAGES_TOGETHER)]
    many = in_order(lambda numbers: look_at_images(dataset, numbers), parts, workers, together=1)
    before = len(found.looks)
    found.looks += _watched((part for parts in many for part in parts), len(dataset))
    shape = dataset.spec.shape
    picture = len(shape) == 3 and shape[0] in (1, 3)
    return found, _sheet(found, lambda k: dataset[k - before].image) if picture else None


def _watched(many: Iterable[Sequence[Look]], total: int) -> Iterator[Look]:
    with Signals() as signals, TaskProgress("inspect", total, images=1) as bar:
        for some in many:
            yield from some
            bar.step(len(some))
            bar.note()
            signals.check()


def _sheet(found: Findings, image: Callable[[int], Tensor]) -> Tensor | None:
    by_class: dict[str | None, list[int]] = {}
    for k, look in enumerate(found.looks):
        if not look.trouble:
            by_class.setdefault(look.label, []).append(k)
    return sheet_of(by_class, image, found.classes)
