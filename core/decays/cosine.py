"""Half a cosine.

Source: Loshchilov & Hutter 2016, "SGDR" (arXiv 1608.03983), equation 5, without restarts.
"""

import math
from typing import Annotated

from annotated_types import Ge, Le

from .base import Progress


def cosine(progress: Progress, *, final: Annotated[float, Ge(0), Le(1)] = 0.0) -> float:
    """final + (1 - final) (1 + cos(pi share)) / 2.

    Args:
        progress: Where training stands.
        final: Factor at the end.
    """
    # (5), eta_max = 1
    return final + 0.5 * (1 - final) * (1 + math.cos(math.pi * progress.share))
