"""A straight line down.

Source: Defazio et al. 2023, "Optimal Linear Decay Learning Rate Schedules and Further Refinements" (arXiv 2310.07831),
section 2: of all schedules that do not look at the gradients, the one with the best bound on the last iterate.
"""

from typing import Annotated

from annotated_types import Ge, Le

from .base import Progress


def linear(progress: Progress, *, final: Annotated[float, Ge(0), Le(1)] = 0.0) -> float:
    """1 - (1 - final) share.

    Args:
        progress: Where training stands.
        final: Factor at the end.
    """
    return 1 - (1 - final) * progress.share
