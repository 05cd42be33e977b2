"""MNIST, through torchvision: 70,000 handwritten digits, 28 x 28, grey.

Source: LeCun, Bottou, Bengio & Haffner 1998, "Gradient-Based Learning Applied to Document Recognition".
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ...core import Dataset, DataSpec, InMemory
from ...files.places import data_folder
from ._fetched import Published, Remote
from ._idx import read_idx
from ._resized import Size, resized


class MNIST(InMemory):
    """Handwritten digits, 28x28 grey, 60000 to train on and 10000 held out; downloaded when they are not there.

    Args:
        split: Which images.
        size: Side of the images in pixels, if not the 28 that they have; antialiased bicubic.
        root: Folder that holds ``MNIST/raw``; when left out, the environment variable DMF_DATA, or ``data``.
        download: Whether to download what is missing (12 MB).
    """

    NAME = "MNIST"  # of torchvision's class, which is that of the folder too
    CLASSES: tuple[str, ...] = tuple("0123456789")

    def __init__(
        self,
        *,
        split: Literal["train", "test"] = "train",
        size: Size = None,
        root: str | None = None,
        download: bool = True,
    ) -> None:
        images, labels = _open(self.NAME, data_folder(root), split, download)
        if len(images) != len(labels) or images.shape[1:] != (28, 28):
            raise ValueError(
                f"the files of {self.NAME} in {data_folder(root)} hold images {tuple(images.shape)} and labels "
                f"{tuple(labels.shape)}, not (N, 28, 28) and (N,): delete them, and they are fetched anew"
            )
        grey = resized(images[:, None], size)
        super().__init__(DataSpec(tuple(grey.shape[1:]), self.CLASSES), grey, {"class": labels.to(torch.int64)})
        self.split, self.size, self.root, self.download = split, size, root, download

    def held_out(self) -> Dataset | None:
        """The test split, for `train`."""
        if self.split != "train":
            return None
        return type(self)(split="test", size=self.size, root=self.root, download=self.download)


def _open(name: str, folder: Path, split: str, download: bool) -> tuple[Tensor, Tensor]:
    """Images (N, 28, 28) and labels (N,), uint8, of a set that torchvision knows; downloaded if need be."""
    from torchvision import datasets  # seconds to import: only who uses it waits

    theirs: Any = getattr(datasets, name)
    inside = folder / name / "raw"
    files = dict(theirs.resources)
    published = Published(
        title=name,
        folder=inside,
        files=tuple(
            Remote(
                inside / packed,
                md5,
                tuple(mirror + packed for mirror in theirs.mirrors),
                instead=partial(_unpacked, inside / packed),
            )
            for packed, md5 in files.items()
        ),
        by_hand=f"fetch these files on a machine with a network and put them into {inside}, packed as they are",
        parent=f"{name}/raw",
    )
    prefix = {"train": "train", "test": "t10k"}[split]
    wanted = (f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz")
    return published.opened(
        lambda: (read_idx(inside, wanted[0], files[wanted[0]]), read_idx(inside, wanted[1], files[wanted[1]])),
        download,
    )


def _unpacked(packed: Path) -> str:
    return "unpacked" if packed.with_suffix("").exists() else ""
