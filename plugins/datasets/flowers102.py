"""Oxford 102 Flowers, through torchvision: 8189 photographs of flowers, 102 classes of 40 to 258 pictures.

Source: Nilsback & Zisserman 2008, "Automated flower classification over a large number of classes", ICVGIP.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from ...core import Dataset
from ...files.collection import Collection, open_collection
from ...files.places import data_folder
from ...files.reading import Treatment
from ...registry import UserError
from ._fetched import Published, Remote, unpack_tar
from ._picture_set import MemoryGiB, PictureSet
from ._resized import Side

PICTURES = 8189
Split: TypeAlias = Literal["all", "train", "val", "test", "train+val"]
PARTS: dict[Split, tuple[str, ...]] = {  # as setid.mat calls them
    "all": ("trnid", "valid", "tstid"),
    "train": ("trnid",),
    "val": ("valid",),
    "test": ("tstid",),
    "train+val": ("trnid", "valid"),
}
HELD_OUT: dict[Split, Split] = {"train": "test", "train+val": "test", "test": "train+val"}


class Flowers102(PictureSet):
    """Photographs of flowers, 8189 in 102 classes, cut square and scaled; downloaded when they are not there.

    The authors split them for classifiers: 1020 to `train`, 1020 to `val`, the other 6149 to `test`. To learn to make
    flowers all are taken, and nothing is held out; `test` holds out the 2040 of `train+val`, and those hold out `test`.

    Args:
        size: Side of the images in pixels. The shorter side of a picture becomes this, and the middle is cut out.
        split: Which images.
        root: Folder that holds ``flowers-102``; when left out, the environment variable DMF_DATA, or ``data``.
        download: Whether to download what is missing (345 MB).
        memory_gib: Keep the decoded images in memory if they need at most so many GiB, else read file by file: all of
            them are 0.1 at 64 pixels, 1.5 at 256.
        cache: Keep the decoded images on disk for the next start.
    """

    def __init__(
        self,
        *,
        size: Side = 64,
        split: Split = "all",
        root: str | None = None,
        download: bool = True,
        memory_gib: MemoryGiB = 2.0,
        cache: bool = True,
    ) -> None:
        collection = _open(data_folder(root), PARTS[split], download)
        super().__init__(collection, Treatment(size), memory_gib=memory_gib, cache=cache, part=split)
        self.size, self.split, self.root, self.download = size, split, root, download
        self.memory_gib, self.cache = memory_gib, cache

    def held_out(self) -> Dataset | None:
        """`test` for `train` and `train+val`, `train+val` for `test`."""
        other = HELD_OUT.get(self.split)
        if other is None:
            return None
        return Flowers102(
            size=self.size,
            split=other,
            root=self.root,
            download=self.download,
            memory_gib=self.memory_gib,
            cache=self.cache,
        )


def _open(folder: Path, parts: tuple[str, ...], download: bool) -> Collection:
    """The pictures of some parts, with their labels; downloaded if need be."""
    from torchvision.datasets import Flowers102 as Theirs  # seconds to import: only who uses it waits

    inside = folder / "flowers-102"
    known = {
        key: Remote(inside / name, md5, (Theirs._download_url_prefix + name,))
        for key, (name, md5) in Theirs._file_dict.items()
    }
    packed = replace(
        known["image"],
        instead=partial(_unpacked, inside),
        unpack=partial(unpack_tar, known["image"].file, inside),
    )
    published = Published(
        title="Oxford 102 Flowers",
        folder=inside,
        files=(packed, known["label"], known["setid"]),
        by_hand=f"fetch these files on a machine with a network and put them into {inside}, packed as they are",
        parent="flowers-102",
    )
    return published.opened(
        partial(_read, inside, known["label"], known["setid"], parts, tuple(Theirs.classes)), download
    )


def _read(
    inside: Path, labels: Remote, parts_of: Remote, parts: tuple[str, ...], classes: tuple[str, ...]
) -> Collection:
    """The pictures of some parts, in the authors' order.

    Raises:
        RuntimeError: Something is not there, or damaged.
    """
    from scipy.io import loadmat

    for one in (labels, parts_of):
        if not one.whole:
            raise RuntimeError(f"{one.file.name} is not there, or damaged")
    numbers = [int(number) for part in parts for number in loadmat(parts_of.file)[part].flatten()]  # from 1
    label_of = loadmat(labels.file)["labels"].flatten()  # from 1
    names = [f"image_{number:05d}.jpg" for number in numbers]
    try:
        found = open_collection(inside / "jpg", "none")
    except UserError as error:
        raise RuntimeError(str(error)) from error
    return found.chosen(found.numbers_of(names), [int(label_of[number - 1]) - 1 for number in numbers], classes)


def _unpacked(inside: Path) -> str:
    """Whether all that was in the archive is there, in words; empty if not."""
    count = sum(1 for _ in (inside / "jpg").glob("*.jpg"))
    return f"unpacked, {count} pictures in jpg" if count >= PICTURES else ""
