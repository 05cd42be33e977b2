"""Your own pictures: a folder a class, or no classes at all.

Files are taken as they are: any size, any format that Pillow reads. Each image is the middle square of its picture,
scaled to ``size`` (see `dmf.files.pictures`).
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from ...core import Cond, Dataset, DataSpec, Example
from ...files.pictures import a_line_each, read_picture, read_pictures
from ...files.search import Found, Picture, counted, natural, search

SPLITS = frozenset(("train", "training", "val", "valid", "validation", "test", "testing"))
CHEAP = 2**30  # bytes of files that are read a second time, for the fingerprint
log = logging.getLogger("dmf")


class ImageFolder(Dataset):
    """Pictures of your own, a folder a class or without labels, cut square and scaled.

    Up to ``memory_gib`` of pixels are decoded once, on all cores, and kept in memory; a larger set is read file by
    file. Classes and files are in natural order: img2 before img10. Nothing is held out.

    Args:
        root: Folder with the pictures; hidden files in it and files with other endings are passed over.
        size: Side of the images in pixels. The shorter side of a picture becomes this, and the middle is cut out.
        channels: 3 for colour, 1 for grey.
        labels: ``folders``: each folder in ``root`` is a class, with all pictures below it. ``none``: no labels; all
            pictures below ``root``. ``auto``: ``folders`` where two or more have pictures, else ``none``.
        memory_gib: Keep the decoded images in memory if they need at most so many GiB; 0 always reads file by file.
    """

    def __init__(
        self,
        *,
        root: str,
        size: Annotated[int, Ge(1)] = 64,
        channels: Literal[3, 1] = 3,
        labels: Literal["auto", "folders", "none"] = "auto",
        memory_gib: Annotated[float, Ge(0)] = 2.0,
    ) -> None:
        folder = Path(root).expanduser().absolute()
        found = search(folder)
        held = len(found.pictures) * channels * size**2 <= memory_gib * 2**30
        _check_files(found, folder, all_read=held)
        classes = _classes(found, folder, labels)
        self.spec = DataSpec((channels, size, size), classes)
        number = {name: i for i, name in enumerate(classes)}
        self.files: Sequence[Picture] = found.pictures
        self.labels = torch.tensor([number[one.top] for one in self.files]) if classes else None
        _tell(found, folder, classes)
        self._held: Tensor | None = None
        if held:
            self._held = read_pictures([one.path for one in self.files], size, channels)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> Example:
        channels, size, _ = self.spec.shape
        image = self._held[i] if self._held is not None else read_picture(self.files[i].path, size, channels)
        return Example(image, {name: value[i] for name, value in self._cond().items()})

    def tensors(self) -> tuple[Tensor, Cond] | None:
        """All of it, if it is in memory."""
        return None if self._held is None else (self._held, self._cond())

    def _cond(self) -> dict[str, Tensor]:
        return {} if self.labels is None else {"class": self.labels}

    def _digest(self) -> str:
        """Of names and sizes of the files, and of all they hold where that is read in seconds; never of the memory."""
        digest = hashlib.sha256(repr((self.spec.shape, self.spec.classes)).encode())
        cheap = sum(one.size for one in self.files) <= CHEAP
        for one in self.files:
            digest.update(f"{one.name}\0{one.size}\0".encode("utf-8", "surrogateescape"))
            if cheap:
                digest.update(one.path.read_bytes())
        return digest.hexdigest()


def _classes(found: Found, folder: Path, labels: str) -> tuple[str, ...]:
    """The names of the classes, in natural order; empty for unlabelled pictures.

    Raises:
        ValueError: Labels are asked for, and cannot be told from the folders.
    """
    tops = sorted({one.top for one in found.pictures} - {""}, key=natural)
    if labels == "none" or (labels == "auto" and len(tops) < 2):  # one folder is a place: there is no other class
        return ()
    loose = [one.name for one in found.pictures if not one.top]
    if loose or not tops:
        there = f"{counted(len(loose), 'picture')} in no folder of a class ({_few(loose)})"
        raise ValueError(f"root: {folder} has {there}; move each into the folder of its class, or write labels: none")
    if labels == "auto" and SPLITS.issuperset(name.lower() for name in tops):
        raise ValueError(
            f"root: {folder} has the folders {_few(tops)}, which look like parts of a set, not like classes; give one "
            f"of them, root: {folder / tops[0]}; or labels: none to take all, or labels: folders if they are classes"
        )
    return tuple(tops)


def _check_files(found: Found, folder: Path, *, all_read: bool) -> None:
    """Accept what can be accepted without opening a file.

    Raises:
        ValueError: No pictures, broken links, or empty files; of these the reading tells where all are read at once.
    """
    if found.broken:
        links = a_line_each([f"{link} -> {os.readlink(link)}" for link in found.broken])
        raise ValueError(
            f"root: {folder} has {counted(len(found.broken), 'broken link')}, to what is not there; put it there, or "
            f"delete the links:{links}"
        )
    if not found.pictures:
        there = f"has no pictures in it, but {found.told_others()}" if found.others else "is empty"
        raise ValueError(f"root: {folder} {there}; give a folder with PNG or JPEG files, or with folders of them")
    empty = [one.name for one in found.pictures if one.size == 0]
    if empty and not all_read:
        files = counted(len(empty), "empty file")
        raise ValueError(f"root: {folder} has {files} ({_few(empty)}); copy anew what is empty, or delete it")


def _tell(found: Found, folder: Path, classes: tuple[str, ...]) -> None:
    kinds = f"{counted(len(classes), 'class', 'classes')} ({_few(classes)})" if classes else "no labels"
    others = f"; left out {found.told_others()}" if found.others else ""
    log.info("%s with %s in %s%s", counted(len(found.pictures), "picture"), kinds, folder, others)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
