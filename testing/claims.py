"""How a check says no."""

from __future__ import annotations


def require(holds: object, sentence: str) -> None:
    """Raise unless ``holds``; a plain ``assert`` would vanish under ``python -O``.

    Raises:
        AssertionError: With the sentence.
    """
    if not holds:
        raise AssertionError(sentence)
