"""Spans of a training, in steps or in images."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class IsSpan:
    """Says of a type that it is a span of training; recipes are checked by it.

    Attributes:
        least: Its least number of steps or images, 0 or 1.
    """

    least: int = 0


Span = Annotated[int | str, IsSpan()]
"""A number of steps, or a text such as ``500 images``, ``200k images``, ``2.5M images``; may be 0."""

Period = Annotated[int | str, IsSpan(least=1)]
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
        raise ValueError(f"{span!r} is no span of training; write steps (200), or images: 500k images, 2M images")
    images = float(found[1]) * _FACTOR[found[2]]
    return max(round(images), 1) if images else 0


def comes_round(images: int, step: int, batch_size: int) -> bool:
    """Whether a step is the first by which another so many images were seen.

    Args:
        images: From one time to the next, at least 1.
        step: Steps taken.
        batch_size: Images a step, of all ranks together.
    """
    return step > 0 and step * batch_size // images > (step - 1) * batch_size // images
