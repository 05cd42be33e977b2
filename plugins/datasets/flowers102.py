"""Oxford 102 Flowers, through torchvision: 8189 photographs of flowers, 102 classes of 40 to 258 pictures.

Source: Nilsback & Zisserman 2008, "Automated flower classification over a large number of classes", ICVGIP.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge

from ...core import Dataset, DataSpec, InMemory
from ...files.pictures import read_pictures
from ._torchvision import Remote, Source, data_folder, unpack_tar

PICTURES = 8189
PARTS = {
    "all": ("train", "val", "test"),
    "train": ("train",),
    "val": ("val",),
    "test": ("test",),
    "train+val": ("train", "val"),
}
HELD_OUT: dict[str, Literal["test", "train+val"]] = {"train": "test", "train+val": "test", "test": "train+val"}


class Flowers102(InMemory):
    """Photographs of flowers, 8189 in 102 classes, cut square and scaled; downloaded when they are not there.

    The authors split them for classifiers: 1020 to `train`, 1020 to `val`, the other 6149 to `test`. To learn to make
    flowers all are taken, and nothing is held out; `test` holds out the 2040 of `train+val`, and those hold out `test`.

    Args:
        size: Side of the images in pixels. The shorter side of a picture becomes this, and the middle is cut out. All
            are kept in memory: 100 MB for 64, 1.6 GB for 256.
        split: Which images.
        root: Folder that holds ``flowers-102``; when left out, the environment variable DMF_DATA, or ``data``.
        download: Whether to download what is missing (345 MB).
    """

    def __init__(
        self,
        *,
        size: Annotated[int, Ge(1)] = 64,
        split: Literal["all", "train", "val", "test", "train+val"] = "all",
        root: str | None = None,
        download: bool = True,
    ) -> None:
        files, labels, classes = _open(data_folder(root), PARTS[split], download)
        images = read_pictures(files, size, 3)
        super().__init__(DataSpec((3, size, size), classes), images, {"class": torch.tensor(labels)})
        self.size, self.split, self.root, self.download = size, split, root, download

    def held_out(self) -> Dataset | None:
        """`test` for `train` and `train+val`, `train+val` for `test`."""
        other = HELD_OUT.get(self.split)
        if other is None:
            return None
        return Flowers102(size=self.size, split=other, root=self.root, download=self.download)


def _open(folder: Path, parts: tuple[str, ...], download: bool) -> tuple[list[Path], list[int], tuple[str, ...]]:
    """Files, labels and names of the classes; downloaded if need be."""
    from torchvision import datasets  # seconds to import: only who uses it waits

    theirs = datasets.Flowers102
    inside = folder / "flowers-102"
    remotes = {
        key: Remote(inside / name, md5, (theirs._download_url_prefix + name,))
        for key, (name, md5) in theirs._file_dict.items()
    }
    archive = remotes["image"].file
    remotes["image"] = replace(
        remotes["image"], instead=partial(_unpacked, inside), unpack=partial(unpack_tar, archive, inside)
    )
    source = Source(
        title="Oxford 102 Flowers",
        folder=inside,
        files=tuple(remotes.values()),
        by_hand=f"fetch these files on a machine with a network and put them into {inside}, packed as they are",
        parent="flowers-102",
    )

    def read() -> list[Any]:
        held = [theirs(str(folder), split=part) for part in parts]
        lost = [file for one in held for file in one._image_files if not file.is_file()]
        if lost:
            raise FileNotFoundError(f"{len(lost)} pictures are not there, the first of them {lost[0]}")
        return held

    held = source.opened(read, download)
    files = [file for one in held for file in one._image_files]
    return files, [label for one in held for label in one._labels], tuple(theirs.classes)


def _unpacked(inside: Path) -> str:
    """Whether all that was in the archive is there."""
    count = sum(1 for _ in (inside / "jpg").glob("*.jpg"))
    return f"unpacked, {count} pictures in jpg" if count >= PICTURES else ""
