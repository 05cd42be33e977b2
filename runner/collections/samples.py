"""Sheets of samples: of a prepared set, and of one that is looked through."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...files.search import natural
from ...files.sheets import labelled_sheet, save_png
from .manifest import records
from .output import Output

T = TypeVar("T")
PER_CLASS, ROWS = 12, 20
WITHOUT_CLASSES = 100


def sheet_of(by_class: Mapping[str | None, Sequence[T]], image: Callable[[T], Tensor]) -> Tensor | None:
    """Samples of each class, a class a row, evenly from the first to the last; unlabelled ones near a square.

    Args:
        by_class: Pictures, by the name of their class; None for no class.
        image: Gives one, uint8 (C, H, W).

    Returns:
        uint8 (3, height, width); None if there is no picture.
    """
    if not by_class:
        return None
    classes = spread(sorted((name for name in by_class if name is not None), key=natural), ROWS)
    rows = [spread(by_class[name], PER_CLASS) for name in classes] or [spread(by_class[None], WITHOUT_CLASSES)]
    labels = [k for k, row in enumerate(rows) for _ in row] if classes else []
    return labelled_sheet(torch.stack([image(one) for row in rows for one in row]), labels, classes)


def write_samples(output: Output) -> None:
    """The sheet of a set whose pictures are all there."""
    files: dict[str | None, list[str]] = defaultdict(list)
    for record, _ in records(output.part):
        if record.file is not None:
            files[record.label].append(record.file)
    found = sheet_of(files, lambda file: _read(output, file))
    if found is not None:
        save_png(found, output.folder / "samples.png")


def spread(things: Sequence[T], number: int) -> list[T]:
    """So many of them, evenly from first to last."""
    if len(things) <= number:
        return list(things)
    return [things[k * (len(things) - 1) // (number - 1)] for k in range(number)]


def _read(output: Output, file: str) -> Tensor:
    with Image.open(output.folder / file) as picture:
        pixels = np.array(picture)
    return torch.from_numpy(pixels).reshape(*pixels.shape[:2], -1).permute(2, 0, 1)
