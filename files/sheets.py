"""Sheets of images: what a person looks at."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, PngImagePlugin
from torch import Tensor

from .lettering import font, written_names
from .writing import write_bytes

MIN_CELL_PX = 48  # smaller images are enlarged by whole factors, or nobody sees anything
GAP_PX = 4
CAPTION_PX = 12
INK, PAPER = (40, 40, 40), (255, 255, 255)


def sheet(images: Tensor, columns: int, row_names: Sequence[str] = (), captions: Sequence[str] = ()) -> Tensor:
    """Images row by row on white, small ones enlarged without blur.

    Args:
        images: uint8 (N, 1 or 3, H, W).
        columns: Images a row.
        row_names: Written to the left of each row; of classes those of `written_names`.
        captions: Written below each image.

    Returns:
        uint8 (3, height, width).
    """
    cells = images.cpu().expand(-1, 3, -1, -1) if images.shape[1] == 1 else images.cpu()
    factor = max(1, math.ceil(MIN_CELL_PX / min(cells.shape[2:])))
    cells = cells.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    height, width = cells.shape[2:]
    letters = font(max(12, min(height // 4, 20))) if row_names else None
    margin = max((math.ceil(letters.getlength(name)) for name in row_names), default=0) + 2 * GAP_PX if letters else 0
    rows, below = math.ceil(len(cells) / columns), font(CAPTION_PX) if captions else None
    wide = max([width, *(math.ceil(below.getlength(text)) for text in captions)] if below else [width]) + GAP_PX
    high = height + GAP_PX + (CAPTION_PX + GAP_PX if captions else 0)
    page = Image.new("RGB", (margin + columns * wide + GAP_PX, rows * high + GAP_PX), PAPER)
    pen = ImageDraw.Draw(page)
    for k, cell in enumerate(cells):
        row, column = divmod(k, columns)
        at = (margin + GAP_PX + column * wide + (wide - GAP_PX - width) // 2, GAP_PX + row * high)
        page.paste(Image.fromarray(cell.permute(1, 2, 0).numpy()), at)
        if captions:
            pen.text((at[0] + width // 2, at[1] + height + GAP_PX // 2), captions[k], INK, below, anchor="ma")
    for row, name in enumerate(row_names[:rows]):
        pen.text((margin - GAP_PX, GAP_PX + row * high + height // 2), name, INK, letters, anchor="rm")
    return torch.from_numpy(np.array(page)).permute(2, 0, 1).contiguous()


def save_png(picture: Tensor, path: Path, notes: Mapping[str, str] | None = None) -> None:
    """Write uint8 (3 or 1, H, W) as PNG; ``notes`` go into its text, so that a picture says how it was made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, png(picture, notes))


def png(picture: Tensor, notes: Mapping[str, str] | None = None) -> bytes:
    """uint8 (3 or 1, H, W) as the bytes of a PNG file, with ``notes`` in its text."""
    info = PngImagePlugin.PngInfo()
    for key, value in (notes or {}).items():
        info.add_text(key, value)
    array, packed = picture.cpu().permute(1, 2, 0).numpy(), io.BytesIO()
    Image.fromarray(array if array.shape[2] == 3 else array[..., 0]).save(packed, "PNG", pnginfo=info)
    return packed.getvalue()


def class_rows(classes: Sequence[str], per_class: int) -> tuple[list[int], int, list[str]]:
    """Labels for a sheet with one class a row: (labels in order, columns, names of the rows).

    Unlabelled data gives a square-ish sheet of ``per_class`` squared images and no labels.
    """
    if not classes:
        return [], per_class, []
    return [k for k in range(len(classes)) for _ in range(per_class)], per_class, written_names(classes)


def labelled_sheet(images: Tensor, labels: Sequence[int], classes: Sequence[str]) -> Tensor:
    """Images grouped by class, a class a row with its name; of one class or none, near a square.

    Args:
        images: uint8 (N, C, H, W).
        labels: Of each; empty for unlabelled data.
        classes: Names of all, by number.
    """
    kinds, names = list(dict.fromkeys(labels)), written_names(classes)
    if len(kinds) < 2:
        return sheet(images, max(1, round(len(images) ** 0.5)), [names[k] for k in kinds])
    rows = [images[[i for i, label in enumerate(labels) if label == kind]] for kind in kinds]
    columns = max(map(len, rows))
    blank = torch.full_like(images[:1], 255)
    padded = [torch.cat([row, blank.expand(columns - len(row), -1, -1, -1)]) for row in rows]
    return sheet(torch.cat(padded), columns, [names[k] for k in kinds])


def training_sheet(images: Tensor, labels: Tensor | None, classes: Sequence[str], per_class: int = 12) -> Tensor:
    """The first training images of each class, one class a row; unlabelled ones in a square."""
    if labels is None or not classes:
        return sheet(images[: per_class**2], per_class)
    chosen = [int(i) for k in range(len(classes)) for i in torch.nonzero(labels == k).flatten()[:per_class]]
    return labelled_sheet(images[chosen], labels[chosen].tolist(), classes)
