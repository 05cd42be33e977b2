"""CIFAR-10, through torchvision: 60,000 real images, 32 x 32, colour, ten classes.

Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
"""

import os
import tarfile
import zlib
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal

import torch

from ...core import Dataset, DataSpec, InMemory

# no network, no permission, a full disk, a broken transfer; what torchvision or tar calls a damaged archive
FAILURES = (OSError, HTTPException, RuntimeError, EOFError, tarfile.TarError, zlib.error)


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
        folder = Path(root or os.environ.get("DMF_DATA") or "data").expanduser().absolute()
        held = _open(folder, split == "train", download)
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

    try:
        return datasets.CIFAR10(str(folder), train=train, download=False)
    except RuntimeError:  # all that torchvision says of a file missing or damaged
        pass
    if not download:
        raise ValueError(_missing(datasets, folder, "download is false, so none was tried"))
    try:
        return datasets.CIFAR10(str(folder), train=train, download=True)
    except FAILURES as error:
        tried = f"the download from {datasets.CIFAR10.url} failed: {type(error).__name__}: {error}"
        raise ValueError(_missing(datasets, folder, tried)) from error


def _missing(datasets: Any, folder: Path, tried: str) -> str:
    """What was looked for, what was tried, what to do."""
    source, inside = datasets.CIFAR10, folder / datasets.CIFAR10.base_folder
    wanted = [*source.train_list, *source.test_list, [source.meta["filename"], source.meta["md5"]]]

    def state(name: str, md5: str) -> str:
        whole = datasets.utils.check_integrity(str(inside / name), md5)
        return "ok" if whole else "damaged" if (inside / name).exists() else "missing"

    files = "".join(f"\n  {name:12}  md5 {md5}  {state(name, md5)}" for name, md5 in wanted)
    return (
        f"CIFAR-10 is not (whole) in {inside}; looked for{files}\n{tried}\n"
        f"to place it by hand: fetch {source.filename} (md5 {source.tgz_md5}) on a machine with a network, then"
        f" `tar -xzf {source.filename} -C {folder}`;\nor set dataset.root or DMF_DATA to the folder that holds"
        f" {source.base_folder}"
    )
