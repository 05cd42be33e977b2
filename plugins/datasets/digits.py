"""The handwritten digits that scikit-learn carries: 1797 real images, 8 x 8, one channel, no download.

Source: Alpaydin & Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI repository, its test part.
"""

from typing import Literal

import numpy as np
import torch

from ...core import Dataset, DataSpec, InMemory
from ._resized import Size, resized

TRAIN = 1497  # the other 300 are held out
CLASSES = tuple("0123456789")


class Digits(InMemory):
    """Handwritten digits, 8x8 grey, 1497 to train on and 300 held out; comes with scikit-learn.

    Pixels are uint8 = round(v * 255 / 16) of scikit-learn's 0 ... 16. The split is fixed: of numpy's
    ``RandomState(0).permutation(1797)``, the stream that numpy keeps frozen, the first 1497 are `train`, the last 300
    `test`, each in that order; `all` is scikit-learn's own order.

    Args:
        split: Which images.
        size: Side of the images in pixels, if not the 8 that they have; antialiased bicubic.
    """

    def __init__(self, *, split: Literal["train", "test", "all"] = "train", size: Size = None) -> None:
        from sklearn.datasets import load_digits  # a second to import: only who uses it waits

        grey, labels = load_digits(return_X_y=True)  # (1797, 64) 0 ... 16, (1797,)
        order = np.random.RandomState(0).permutation(len(grey))
        rows = {"train": order[:TRAIN], "test": order[TRAIN:], "all": np.arange(len(grey))}[split]
        pixels = np.round(grey[rows] * 255 / 16).astype(np.uint8)
        images = resized(torch.from_numpy(pixels).reshape(-1, 1, 8, 8), size)
        super().__init__(
            DataSpec(tuple(images.shape[1:]), CLASSES),
            images,
            {"class": torch.from_numpy(labels[rows].astype(np.int64))},
        )
        self.split, self.size = split, size

    def held_out(self) -> Dataset | None:
        """The 300 of `test`, for `train`; the other splits leave nothing out."""
        return Digits(split="test", size=self.size) if self.split == "train" else None
