"""Half a cosine.

Source: Loshchilov & Hutter 2016, "SGDR" (arXiv 1608.03983), equation 5, without restarts.
"""

import math

from .base import Progress


def cosine(progress: Progress) -> float:
    """(1 + cos(pi share)) / 2.

    Args:
        progress: Where training stands.
    """
    return 0.5 * (1 + math.cos(math.pi * progress.share))
