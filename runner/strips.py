"""Strips: what images look like on their way from noise, a row an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..core import Codec, Level
from ..core.level import like
from ..core.sampler import Watch
from ..files.sheets import sheet


class Strips:
    """Watches images being made, and keeps pictures of them at even distances in steps; the last is the image itself.

    On the way a picture shows x / sqrt(alpha^2 + sigma^2), in which noise and images have one contrast on every
    schedule.

    Args:
        codec: Makes pixels of x.
        levels: The grid that is walked; where only its end is, there are fewer pictures.
        pictures: Of each image, at least 1; at most one a step is kept.
        watch: Called first, at each step.
    """

    def __init__(self, codec: Codec, levels: Sequence[Level], pictures: int, watch: Watch | None = None) -> None:
        self._codec, self._watch = codec, watch
        steps = len(levels) - 1
        pictures = min(pictures, steps)
        self._shown = [levels[k * steps // pictures] for k in range(1, pictures + 1)]
        self._now: list[Tensor] = []
        self._rows: list[Tensor] = []

    def __call__(self, index: int, x: Tensor, level: Level) -> None:
        """A step has been taken; see `Watch`."""
        if self._watch is not None:
            self._watch(index, x, level)
        last = level is self._shown[-1]
        if any(level is one for one in self._shown):
            size = torch.ones(()) if last else torch.hypot(level.alpha, level.sigma)
            self._now.append(self._codec.decode(like(size.reciprocal(), x) * x).cpu())
        if last:
            self._rows.append(torch.stack(self._now, 1))
            self._now = []

    def sheet(self, names: Sequence[str] = ()) -> Tensor:
        """All strips, uint8 (3, height, width), the newest image last.

        Args:
            names: Written beside them, one for each image.
        """
        rows = torch.cat(self._rows)
        return sheet(rows.flatten(0, 1), rows.shape[1], names)
