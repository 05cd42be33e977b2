"""What the course of a learning rate is given, and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..spans import Span, images_of


@dataclass(frozen=True)
class Progress:
    """Where a training stands; counted in images, so that it is the same on any number of ranks.

    Attributes:
        images: Images seen since the end of the warm-up.
        horizon: Images from there to the end that the training is laid out for; at least 1.
        batch_size: Images a step, of all ranks together.
        warmup: Images of the warm-up.
    """

    images: int
    horizon: int
    batch_size: int
    warmup: int = 0

    @property
    def share(self) -> float:
        """How much of it is done, 0 to 1; a training that goes on beyond its horizon stays at 1."""
        return min(self.images / self.horizon, 1.0)

    @property
    def images_seen(self) -> int:
        """Images since the training began."""
        return self.warmup + self.images

    def images_of(self, span: Span) -> int:
        """The images of a number of steps, or of a text such as ``500k images``."""
        return images_of(span, self.batch_size)


Decay = Callable[[Progress], float]
