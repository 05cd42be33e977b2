"""Sheets of samples: of a prepared set, and of one that is looked through."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...files.listing import natural
from ...files.prepared import SAMPLES
from ...files.sheets import labelled_sheet, save_png
from .manifest import records
from .output import Output

T = TypeVar("T")
PER_CLASS, ROWS = 12, 20
WITHOUT_CLASSES = 100


def sheet_of(
    by_class: Mapping[str | None, Sequence[T]], image: Callable[[T], Tensor], classes: Sequence[str] = ()
) -> Tensor | None:
    """Samples of each class, a class a row, evenly from the first to the last; unlabelled ones near a square.

    Args:
        by_class: Pictures, by the name of their class; None for no class.
        image: Gives one, uint8 (C, H, W).
        classes: Names of all, by number; none: those of the pictures, in natural order.

    Returns:
        uint8 (3, height, width); None if there is no picture.
    """
    if not by_class:
        return None
    classes = classes or sorted((name for name in by_class if name is not None), key=natural)
    shown = spread([k for k, name in enumerate(classes) if name in by_class], ROWS)
    rows = [spread(by_class[classes[k]], PER_CLASS) for k in shown] or [spread(by_class[None], WITHOUT_CLASSES)]
    labels = [k for k, row in zip(shown, rows, strict=True) for _ in row] if shown else []
    return labelled_sheet(torch.stack([image(one) for row in rows for one in row]), labels, classes)


def write_samples(output: Output) -> None:
    """The sheet of a set whose pictures are all there."""
    files: dict[str | None, list[str]] = defaultdict(list)
    for record, _ in records(output.part):
        if record.file is not None:
            files[record.label].append(record.file)
    found = sheet_of(files, lambda file: _read(output, file))
    if found is not None:
        save_png(found, output.folder / SAMPLES)


def spread(things: Sequence[T], number: int) -> list[T]:
    """So many of them, evenly from first to last."""
    if len(things) <= number:
        return list(things)
    return [things[k * (len(things) - 1) // (number - 1)] for k in range(number)]


def _read(output: Output, file: str) -> Tensor:
    with Image.open(output.folder / file) as picture:
        pixels = np.array(picture)
    return torch.from_numpy(pixels).reshape(*pixels.shape[:2], -1).permute(2, 0, 1)
