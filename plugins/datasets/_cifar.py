"""CIFAR's two sets: an archive of pickled batches, each of which has a checksum.

Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
"""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...files.places import data_folder
from ._fetched import Published, Remote, unpack_tar


def read_batches(
    name: str, root: str | None, split: str, download: bool, labels: str, names: str
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Images uint8 (N, 3, 32, 32), labels int64 (N,) and the names of the classes; fetched if need be.

    Args:
        name: Of torchvision's class.
        root: Folder that holds the folder of the batches; None for the usual one.
        split: ``train`` or ``test``.
        download: Whether to fetch what is missing.
        labels: What a batch calls its labels.
        names: What the file of names calls those of the classes.

    Raises:
        ValueError: The set is not to be had: what was looked for and tried, and what to do.
    """
    from torchvision import datasets  # seconds to import: only who uses it waits

    theirs: Any = getattr(datasets, name)
    folder = data_folder(root)
    inside = folder / theirs.base_folder
    listed = [*theirs.train_list, *theirs.test_list, (theirs.meta["filename"], theirs.meta["md5"])]
    members = {file: Remote(inside / file, md5, ()) for file, md5 in listed}
    archive = folder / theirs.filename
    packed = Remote(
        archive,
        theirs.tgz_md5,
        (theirs.url,),
        instead=lambda: "unpacked" if all(one.whole for one in members.values()) else "",
        unpack=partial(unpack_tar, archive, folder),
    )
    published = Published(
        title=name.replace("CIFAR", "CIFAR-"),
        folder=inside,
        files=(packed,),
        by_hand=f"fetch {theirs.filename} (md5 {theirs.tgz_md5}) on a machine with a network and put it into {folder},"
        f" packed as it is",
        parent=theirs.base_folder,
        inside=tuple(members.values()),
    )
    batches = [members[file] for file, _ in (theirs.train_list if split == "train" else theirs.test_list)]
    return published.opened(partial(_read, batches, members[theirs.meta["filename"]], labels, names), download)


def _read(batches: list[Remote], meta: Remote, labels: str, names: str) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    held = [_unpickled(one) for one in batches]
    pixels = np.concatenate([one["data"] for one in held])  # (N, 3072): red, green, blue, each row by row
    numbers = torch.tensor([label for one in held for label in one[labels]], dtype=torch.int64)
    return torch.from_numpy(pixels).reshape(-1, 3, 32, 32), numbers, tuple(_unpickled(meta)[names])


def _unpickled(one: Remote) -> dict[str, Any]:
    """The content of a file whose checksum is that of the published one: no other pickle is opened.

    Raises:
        RuntimeError: It is not there, or damaged.
    """
    if not one.whole:
        raise RuntimeError(f"{one.file.name} is not there, or damaged")
    with open(one.file, "rb") as file:
        content: dict[str, Any] = pickle.load(file, encoding="latin1")
    return content
