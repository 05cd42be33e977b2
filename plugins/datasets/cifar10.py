"""CIFAR-10: 60,000 real images, 32 x 32, colour, ten classes.

Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images", section 3.1; files by torchvision.
"""

from __future__ import annotations

from typing import Literal

from ...core import Dataset, DataSpec, InMemory
from ._cifar import read_batches
from ._resized import Size, resized


class CIFAR10(InMemory):
    """Animals and vehicles, 32x32 colour, 50000 to train on and 10000 held out; downloaded when they are not there.

    Args:
        split: Which images.
        size: Side of the images in pixels, if not the 32 that they have; antialiased bicubic.
        root: Folder that holds ``cifar-10-batches-py``; when left out, the environment variable DMF_DATA, or ``data``.
        download: Whether to download what is missing (170 MB).
    """

    def __init__(
        self,
        *,
        split: Literal["train", "test"] = "train",
        size: Size = None,
        root: str | None = None,
        download: bool = True,
    ) -> None:
        images, labels, classes = read_batches("CIFAR10", root, split, download, "labels", "label_names")
        images = resized(images, size)
        super().__init__(DataSpec(tuple(images.shape[1:]), classes), images, {"class": labels})
        self.split, self.size, self.root, self.download = split, size, root, download

    def held_out(self) -> Dataset | None:
        """The test split, for `train`."""
        if self.split != "train":
            return None
        return CIFAR10(split="test", size=self.size, root=self.root, download=self.download)
