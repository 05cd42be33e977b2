"""Images kept while they are made: as pictures, or as one array."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ...core import DataSpec
from ...files.collection import LABEL_FILE, NAMES_FILE
from ...files.sheets import png
from ...files.threads import cores
from ...files.words import counted, printable
from ...files.writing import aside, write_json, write_text
from ...registry import UserError
from ..image_sets.arrays import write_images
from ..image_sets.unfinished import UNFINISHED, check_finished
from ..launching import find_place
from ..outputs import why_not
from ..world import LocalError, World
from .streams import Shown

AHEAD = 4  # batches that wait to be written, before who makes them has to
GATHERED = 256  # rows of each rank that are sent at a time


class Saving(Protocol):
    """Gets each batch on its rank; entered before the first, left after the last."""

    def __enter__(self) -> Saving: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...

    def take(self, shown: Shown) -> None:
        """Keep a batch."""

    def finish(self) -> str:
        """All is kept now; on every rank. What was written, in a few words."""


def saving(place: Path, count: int, spec: DataSpec, world: World) -> Saving:
    """What keeps ``count`` images in ``place``: pictures in a folder, or an ``.npz`` file if it is called so.

    Args:
        place: It; a folder is made.
        count: Images over all ranks.
        spec: Of them, in pixels.
        world: The ranks.

    Raises:
        UserError: There is something in it, or nothing can be written there.
    """
    if len(spec.shape) != 3 or spec.shape[0] not in (1, 3):
        shape = " x ".join(map(str, spec.shape))
        raise UserError(f"--save-images writes images of 1 or 3 channels; these are {shape}: leave it out")
    kind = SavedArray if place.suffix.lower() == ".npz" else SavedPictures
    world.first_only(lambda: check_place(place))
    return kind(place, count, spec, world)


def check_place(place: Path) -> None:
    """Accept a place that has nothing in it yet.

    Raises:
        UserError: It has, or cannot be.
    """
    shown = printable(str(place))
    if place.suffix.lower() == ".npz":
        if os.path.lexists(place) or not place.absolute().parent.is_dir():
            why = "is there already" if os.path.lexists(place) else "lies in a folder that is not there"
            raise UserError(f"--save-images: {shown} {why}; give the name of a new file in a folder that is there")
        _check_takes_files(place)
        return
    if os.path.lexists(place) and not place.is_dir():
        raise UserError(f"--save-images: {shown} is a file; give a folder, new or empty, or a new FILE.npz")
    check_finished(place, "remove it, or name another")
    there = len(os.listdir(place)) if place.is_dir() else 0
    if there:
        raise UserError(
            f"--save-images: {shown} has {counted(there, 'file')} in it, and images of two makes are not mixed; give a "
            "new or empty folder"
        )
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--save-images: {shown} cannot be made: {error.strerror}") from None
    _check_takes_files(place)


def _check_takes_files(place: Path) -> None:
    why = why_not(place)
    if why is not None:
        raise UserError(f"--save-images: nothing can be written to {printable(str(place))}: {why}; name another place")


class Labels:
    """The label of each image of this rank, and of all."""

    def __init__(self, spec: DataSpec, world: World) -> None:
        self.classes, self.world = spec.classes, world
        self.rows: list[Tensor] = []

    def take(self, shown: Shown) -> None:
        """Note those of a batch."""
        labels = shown.cond.get("class")
        if labels is not None and self.classes:
            self.rows.append(torch.stack([shown.numbers.to(labels.device), labels], 1))

    def all(self) -> Tensor | None:
        """Of images 0, 1, ... in that order, on every rank; None for unlabelled ones."""
        if not self.classes:
            return None
        mine = torch.cat(self.rows) if self.rows else torch.zeros(0, 2, dtype=torch.int64)
        found = torch.cat([part.cpu() for part in self.world.gather_rows(mine)])
        return found[found[:, 0].argsort(), 1]


class SavedPictures:
    """A PNG for each image, by its number, and ``dataset.json`` with the labels, as `image_folder` reads them.

    Each rank writes its own, in threads, while the next are made. A file is whole or it is not there.
    """

    def __init__(self, place: Path, count: int, spec: DataSpec, world: World) -> None:
        self.place, self.count, self.spec, self.world = place, count, spec, world
        self.digits = max(len(str(count - 1)), 6)
        self.labels = Labels(spec, world)
        self.waiting: deque[Future[None]] = deque()

    def __enter__(self) -> SavedPictures:
        self.pool = ThreadPoolExecutor(max(1, cores() // find_place().local_size), "dmf-save")
        self.world.first_only(self._begin)
        return self

    def _begin(self) -> None:
        note = self.place / UNFINISHED
        try:
            write_text(note, f"{counted(self.count, 'picture')} were to be written here\n")
        except OSError as error:
            raise LocalError(f"--save-images: {note} cannot be written: {error.strerror}") from None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.pool.shutdown(cancel_futures=True)  # what is in hand is written to its end

    def take(self, shown: Shown) -> None:
        """Written in threads; this one waits only where they are far behind."""
        self.labels.take(shown)
        pieces = cores()
        numbers = shown.numbers.tolist()
        for some in (slice(i, None, pieces) for i in range(min(pieces, len(numbers)))):
            self.waiting.append(self.pool.submit(self._write, shown.images[some], numbers[some]))
        while len(self.waiting) > AHEAD * pieces:
            self.waiting.popleft().result()

    def finish(self) -> str:
        """The last pictures, then the labels."""
        while self.waiting:
            self.waiting.popleft().result()
        labels = self.labels.all()
        if labels is not None and self.world.first:
            write_json(self.place / NAMES_FILE, list(self.spec.classes))
            named = [[self._name(i), label] for i, label in enumerate(labels.tolist())]
            write_json(self.place / LABEL_FILE, {"labels": named})
        self.world.barrier()
        if self.world.first:
            (self.place / UNFINISHED).unlink()
        return f"{counted(self.count, 'picture')} in {self.place}"

    def _name(self, number: int) -> str:
        return f"{number:0{self.digits}d}.png"

    def _write(self, images: Tensor, numbers: list[int]) -> None:
        for image, number in zip(images.cpu(), numbers, strict=True):  # here, so that who makes them need not wait
            path = self.place / self._name(number)
            try:
                aside(path).write_bytes(png(image))
                os.replace(aside(path), path)
            except OSError as error:
                aside(path).unlink(missing_ok=True)
                raise LocalError(f"--save-images: {path} cannot be written: {error.strerror}") from None


class SavedArray:
    """One ``.npz`` file, ``arr_0`` uint8 (N, H, W, C) and ``arr_1`` the labels, written by rank 0 at the end."""

    def __init__(self, place: Path, count: int, spec: DataSpec, world: World) -> None:
        self.place, self.count, self.spec, self.world = place, count, spec, world
        self.labels = Labels(spec, world)
        self.rows: list[tuple[Tensor, Tensor]] = []

    def __enter__(self) -> SavedArray:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.rows.clear()

    def take(self, shown: Shown) -> None:
        """Kept in the host's memory."""
        self.labels.take(shown)
        self.rows.append((shown.numbers, shown.images.permute(0, 2, 3, 1).cpu()))

    def finish(self) -> str:
        """To rank 0, and written there."""
        channels, *size = self.spec.shape
        whole = np.empty((self.count, *size, channels), np.uint8) if self.world.first else None
        numbers, images = self._mine((*size, channels))
        most = int(self.world.max(torch.tensor(len(numbers))))
        for start in range(0, most, GATHERED):
            piece = slice(start, start + GATHERED)
            where, rows = (self.world.gather_rows(one[piece]) for one in (numbers, images))
            if whole is not None:
                whole[torch.cat(where).cpu().numpy()] = torch.cat(rows).cpu().numpy()
        labels = self.labels.all()
        self.world.first_only(lambda: self._write(whole, labels))
        return f"{counted(self.count, 'image')} in {self.place}"

    def _mine(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        if not self.rows:
            return torch.zeros(0, dtype=torch.int64), torch.zeros(0, *shape, dtype=torch.uint8)
        numbers, images = zip(*self.rows, strict=True)
        self.rows.clear()
        return torch.cat(numbers), torch.cat(images)

    def _write(self, images: Any, labels: Tensor | None) -> None:
        try:
            write_images(self.place, images, None if labels is None else labels.numpy())
        except OSError as error:
            raise UserError(f"{self.place} cannot be written: {error.strerror}") from None
