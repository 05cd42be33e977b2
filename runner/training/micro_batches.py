"""Micro-batches: a rank's share of the batch goes through the network in pieces, whose gradients add up.

Cost: the memory of one piece's activations in place of the share's; the work is the same, in smaller portions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ...core import Level

Drawn = tuple[Tensor, Tensor, Level, Mapping[str, Tensor]]
"""(x0, eps, level, cond) of a share of a batch."""


@dataclass(frozen=True)
class Fitted:
    """What `auto` has found to fit into the memory, and where: a run that goes on there takes the same.

    Attributes:
        images: Of a micro-batch.
        share: Of a rank in a batch.
        device: Its name.
    """

    images: int
    share: int
    device: str


def pieces_of(drawn: Drawn, size: int) -> list[Drawn]:
    """The share in pieces of ``size`` images, in order; the last one may be smaller.

    Args:
        drawn: Of all the share's images.
        size: Images of a piece.
    """
    images = len(drawn[0])
    if size >= images:
        return [drawn]
    return [_piece(drawn, slice(start, start + size)) for start in range(0, images, size)]


def _piece(drawn: Drawn, part: slice) -> Drawn:
    x0, eps, level, cond = drawn
    fields = Level(level.t[part], level.alpha[part], level.sigma[part])
    return x0[part], eps[part], fields, {name: value[part] for name, value in cond.items()}
