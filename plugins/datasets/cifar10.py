"""CIFAR-10, through torchvision: 60,000 real images, 32 x 32, colour, ten classes.

Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
"""

from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from ...core import Dataset, DataSpec, InMemory
from ._torchvision import Source, data_folder


class CIFAR10(InMemory):
    """CIFAR-10, 32x32 colour, 50000 to train on and 10000 held out; downloaded when it is not there.

    Args:
        split: Which images.
        root: Folder that holds ``cifar-10-batches-py``; when left out, the environment variable DMF_DATA, or ``data``.
        download: Whether to download what is missing (170 MB).
    """

    def __init__(
        self, *, split: Literal["train", "test"] = "train", root: str | None = None, download: bool = True
    ) -> None:
        held = _open(data_folder(root), split == "train", download)
        images = torch.from_numpy(held.data).permute(0, 3, 1, 2).contiguous()  # (N, H, W, C) -> (N, C, H, W)
        labels = torch.tensor(held.targets, dtype=torch.int64)
        super().__init__(DataSpec((3, 32, 32), tuple(held.classes)), images, {"class": labels})
        self.split, self.root, self.download = split, root, download

    def held_out(self) -> Dataset | None:
        """The test split, for `train`."""
        return CIFAR10(split="test", root=self.root, download=self.download) if self.split == "train" else None


def _open(folder: Path, train: bool, download: bool) -> Any:
    """torchvision's own object on the data at ``folder``, every file checked by its md5; downloaded if need be."""
    from torchvision import datasets  # seconds to import: only who uses it waits

    theirs = datasets.CIFAR10
    listed = [*theirs.train_list, *theirs.test_list, [theirs.meta["filename"], theirs.meta["md5"]]]
    source = Source(
        title="CIFAR-10",
        folder=folder / theirs.base_folder,
        files=tuple((name, md5) for name, md5 in listed),
        address=theirs.url,
        by_hand=f"fetch {theirs.filename} (md5 {theirs.tgz_md5}) on a machine with a network, then"
        f" `tar -xzf {theirs.filename} -C {folder}`",
        parent=theirs.base_folder,
    )
    read = partial(theirs, str(folder), train=train)
    return source.opened(read, partial(read, download=True), download)
