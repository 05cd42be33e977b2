"""How a check says no, and how it says that it cannot be had."""

from __future__ import annotations

import unittest
from collections.abc import Callable, Iterable
from typing import Any, NoReturn


class Broken(AssertionError):
    """A contract that is not kept; the text is one sentence about the part."""


def require(holds: object, sentence: str) -> None:
    """Raise unless ``holds``; a plain ``assert`` would vanish under ``python -O``.

    Raises:
        AssertionError: With the sentence.
    """
    if not holds:
        raise Broken(sentence)


def cannot(reason: str) -> NoReturn:
    """End a check that cannot be had of this part: pytest and unittest call it skipped.

    Raises:
        unittest.SkipTest: With the reason.
    """
    raise unittest.SkipTest(reason)


def hold(checks: Iterable[Callable[[Any], None]], part: Any) -> None:
    """Run all checks on a part; those that cannot be had of it are left out.

    Raises:
        AssertionError: With a sentence, at the first that fails.
    """
    for check in checks:
        try:
            check(part)
        except unittest.SkipTest:
            continue


def called(part: Any) -> str:
    """What sentences call a part: the name of its class or function, of a `functools.partial` the one inside."""
    inside = getattr(part, "func", part)
    return str(getattr(inside, "__name__", type(inside).__name__))
