"""Stretches of a training, in steps or in images."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Stretch:
    """Says of a type that it is a stretch of training; recipes are checked by it.

    Attributes:
        least: Its least number of steps or images, 0 or 1.
    """

    least: int = 0


Span = Annotated[int | str, Stretch()]
"""A number of steps, or a text such as ``500 images``, ``200k images``, ``2.5M images``; may be 0."""

Period = Annotated[int | str, Stretch(least=1)]
"""A span that is not 0."""

_IMAGES = re.compile(r"(\d+(?:\.\d+)?)\s*([kM]?) images")
_FACTOR = {"": 1, "k": 1_000, "M": 1_000_000}


def images_of(span: Span, batch_size: int) -> int:
    """The images of a span.

    Args:
        span: Steps, or a text that says images.
        batch_size: Images a step, of all ranks together.

    Raises:
        ValueError: A text that says something else.
    """
    if isinstance(span, int):
        return span * batch_size
    found = _IMAGES.fullmatch(span)
    if found is None:
        raise ValueError(f"{span!r} is no stretch of training; write steps (200), or images: 500k images, 2M images")
    images = float(found[1]) * _FACTOR[found[2]]
    return max(round(images), 1) if images else 0
