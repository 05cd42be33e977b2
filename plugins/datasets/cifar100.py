"""CIFAR-100: 60,000 real images, 32 x 32, colour, in 100 classes of 20 groups.

Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images", section 3.1; files by torchvision.
"""

from __future__ import annotations

from typing import Literal

from ...core import Dataset, DataSpec, InMemory
from ._cifar import read_batches
from ._resized import Size, resized


class CIFAR100(InMemory):
    """Things of 100 kinds, 32x32 colour, 50000 to train on and 10000 held out; downloaded when they are not there.

    Args:
        labels: ``fine``: the 100 classes, 500 training images each. ``coarse``: the 20 groups of five of them.
        split: Which images.
        size: Side of the images in pixels, if not the 32 that they have; antialiased bicubic.
        root: Folder that holds ``cifar-100-python``; when left out, the environment variable DMF_DATA, or ``data``.
        download: Whether to download what is missing (169 MB).
    """

    def __init__(
        self,
        *,
        labels: Literal["fine", "coarse"] = "fine",
        split: Literal["train", "test"] = "train",
        size: Size = None,
        root: str | None = None,
        download: bool = True,
    ) -> None:
        images, numbers, classes = read_batches(
            "CIFAR100", root, split, download, f"{labels}_labels", f"{labels}_label_names"
        )
        images = resized(images, size)
        names = tuple(name.replace("_", " ") for name in classes)
        super().__init__(DataSpec(tuple(images.shape[1:]), names), images, {"class": numbers})
        self.labels, self.split, self.size, self.root, self.download = labels, split, size, root, download

    def held_out(self) -> Dataset | None:
        """The test split, for `train`."""
        if self.split != "train":
            return None
        return CIFAR100(labels=self.labels, split="test", size=self.size, root=self.root, download=self.download)
