"""What a run shows of its data: a sheet of training images, and the conditions to sample with."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core import Dataset
from ..files.sheets import save_png, training_sheet
from .conditions import EXAMPLES, beyond_classes, save_examples
from .feed import Rows, Source, each
from .session import Session

MOST = 144  # images, all of which are shown
ROW, SHORT_ROW = 12, 6  # images of a class: of twelve classes or fewer, and of more


def show_data(session: Session, dataset: Dataset, source: Source) -> None:
    """Write ``data.png`` and ``examples.safetensors``, and give the sheet to the hooks.

    Raises:
        UserError: One of the images cannot be read.
    """
    images, cond = _read(source, shown(dataset))
    picture = training_sheet(images, cond.get("class"), dataset.spec.classes, ROW)
    save_png(picture, session.folder / "data.png")
    session.hooks.call("dmf_images", run=session, step=0, name="training images", images=picture)
    session.wrote(session.folder / "data.png")
    if beyond_classes(dataset.spec):
        known = dataset.conditions() or _read(source, torch.arange(min(len(dataset), EXAMPLES)))[1]
        save_examples(known, dataset.spec, session.files.examples)


def shown(dataset: Dataset) -> Tensor:
    """Numbers of the images to show, (n,), at most `MOST`: a few of each of the first classes.

    They are chosen by labels alone: no image is read to be left out. Where labels are not known without images, those
    that are shown come from all over the set.
    """
    known, count = dataset.conditions(), len(dataset)
    if not dataset.spec.classes:
        return torch.arange(min(count, MOST))
    if known is None:
        most = min(count, MOST)
        return torch.arange(most) * count // most
    labels = known["class"].cpu()
    kinds = torch.unique(labels)
    row = ROW if len(kinds) * ROW <= MOST else SHORT_ROW
    return torch.cat([torch.nonzero(labels == kind).flatten()[:row] for kind in kinds[: MOST // row]])


def _read(source: Source, numbers: Tensor) -> Rows:
    """Rows on the CPU, read ahead as any are."""
    found = list(each(source, torch.split(numbers, ROW)))
    cond = {name: torch.cat([rows[1][name] for rows in found]).cpu() for name in found[0][1]}
    return torch.cat([images for images, _ in found]).cpu(), cond
