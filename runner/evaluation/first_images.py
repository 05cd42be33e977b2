"""The first images of a stream, as a sheet to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...core import DataSpec
from ...files.sheets import labelled_sheet
from ...registry import Recipe
from ..world import World
from .saving import Labels
from .scored import Scored
from .streams import Shown
from .trained import Trained

if TYPE_CHECKING:
    from ..assemble import ReferenceModel
    from .evaluation import Evaluation

GRID = "grid"
SHEET = ((64, 512, 10, 20), (10**9, 128, 6, 10))  # up to this side: images to choose from, columns, classes


class FirstImages:
    """The first images of a stream, for a sheet: a class a row where there are labels.

    Args:
        spec: Of the images, in pixels.
        world: The ranks.
    """

    def __init__(self, spec: DataSpec, world: World) -> None:
        self.spec, self.world = spec, world
        side = max(spec.shape[1:])
        self.among, self.columns, self.classes = next(rest for most, *rest in SHEET if side <= most)
        self.labels, self.rows = Labels(spec, world), list[tuple[Tensor, Tensor]]()

    def take(self, shown: Shown) -> None:
        """Keep what may come onto the sheet, on the device."""
        early = shown.numbers < self.among
        if early.any():
            images = shown.images[early.to(shown.images.device)]
            cond = {name: one[early.to(one.device)] for name, one in shown.cond.items()}
            kept = Shown(images, cond, shown.numbers[early])
            self.labels.take(kept)
            self.rows.append((kept.numbers, kept.images))

    def sheet(self) -> Tensor | None:
        """The sheet, uint8 (3, height, width), on rank 0; None elsewhere. Asked on every rank."""
        numbers = torch.cat([one for one, _ in self.rows]) if self.rows else torch.zeros(0, dtype=torch.int64)
        empty = torch.zeros(0, *self.spec.shape, dtype=torch.uint8)
        images = torch.cat([one for _, one in self.rows]) if self.rows else empty
        where = torch.cat([one.cpu() for one in self.world.gather_rows(numbers)])
        every = torch.cat([one.cpu() for one in self.world.gather_rows(images)])[where.argsort()]
        labels = self.labels.all()
        if not self.world.first or self.spec.shape[0] not in (1, 3):
            return None
        return self._drawn(every, labels)

    def _drawn(self, images: Tensor, labels: Tensor | None) -> Tensor:
        if labels is None:
            return labelled_sheet(images[: self.columns**2], [], ())
        kinds = sorted(set(labels.tolist()))[: self.classes]
        chosen = [int(i) for kind in kinds for i in torch.nonzero(labels == kind).flatten()[: self.columns]]
        return labelled_sheet(images[chosen], labels[chosen].tolist(), self.spec.classes)


def each_of(takers: Sequence[Callable[[Shown], None]]) -> Callable[[Shown], None]:
    """One function for several that get each batch."""

    def take(shown: Shown) -> None:
        for one in takers:
            one(shown)

    return take


def scored_with_grid(
    evaluation: Evaluation,
    trained: Trained,
    guide: ReferenceModel | None,
    takers: Sequence[Callable[[Shown], None]] = (),
    recipe: Recipe | None = None,
) -> Scored:
    """Score a network; the pictures are the metrics' and, as ``grid``, the first samples.

    Args:
        evaluation: By which.
        trained: The network.
        guide: The network to guide away from, if there is one.
        takers: What else gets each batch of samples.
        recipe: With another sampler or seed than the evaluation's own; None is that.
    """
    first = FirstImages(evaluation.dataset.spec, evaluation.world)
    # metrics of held-out images alone need no sample, and then none is made for the sheet's sake
    all_takers = [first.take, *takers] if evaluation.scoring.seeing or takers else []
    on_shown = each_of(all_takers) if all_takers else None
    scored = evaluation.run(trained, guide, recipe=recipe, on_shown=on_shown, wanted=bool(takers))
    sheet = first.sheet() if all_takers and scored.complete else None
    return replace(scored, pictures=scored.pictures | ({} if sheet is None else {GRID: sheet}))


def told_as(name: str) -> str:
    """What trackers call a picture: their ``grid`` is the sheet of samples."""
    return f"evaluation_{name}" if name == GRID else name
