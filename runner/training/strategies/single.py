"""One rank alone."""

from __future__ import annotations

from ..learner import Learner
from .base import Losses, Strategy


class Single(Strategy):
    """Nothing is shared."""

    def wrap(self, learner: Learner) -> Losses:
        """The learner as it is."""
        return learner
