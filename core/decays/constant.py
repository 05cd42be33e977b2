"""No decay."""

from .base import Progress


def constant(progress: Progress) -> float:
    """1 throughout.

    Args:
        progress: Not needed.
    """
    return 1.0
