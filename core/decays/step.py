"""Down by a factor at certain points.

Source: He et al. 2015, "Deep Residual Learning" (arXiv 1512.03385), section 4.2: by 10 at 32k and at 48k of 64k steps.
"""

from typing import Annotated

from annotated_types import Gt, Le

from ..spans import Period
from .base import Progress

OF_THE_PAPER = (32_000, 48_000)  # steps


def step(
    progress: Progress,
    *,
    every: Period | None = None,
    at: tuple[Period, ...] | None = None,
    factor: Annotated[float, Gt(0), Le(1)] = 0.1,
) -> float:
    """factor^n after n of the points; those of ``every`` and of ``at`` count together.

    Args:
        progress: Where training stands.
        every: Span from one point to the next, counted from the start of training; null has no such points.
        at: Points, counted from the start of training, in any order; null has none, and without `every` the paper's
            two, 32,000 and 48,000 steps.
        factor: Of each point.
    """
    points = at if at is not None else () if every is not None else OF_THE_PAPER
    seen = progress.images_seen
    passed = sum(seen >= progress.images_of(point) for point in points)
    if every is not None:
        passed += seen // progress.images_of(every)
    return float(factor**passed)
