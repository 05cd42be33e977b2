"""Shared by the tests that show wrong parts to the contract kit."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from dmf.testing import CHECKS, Broken

Check = Callable[[Any], None]
Refused = list[tuple[Any, Check, str]]  # (a wrong part, the check that refuses it, its sentence)


def everything(refused: Mapping[str, Refused]) -> Refused:
    """All of it, whatever the kind."""
    return [one for several in refused.values() for one in several]


def name_of(value: Any) -> str:
    """An id for a part or a check; a sentence has none."""
    return value if isinstance(value, str) and value.isalpha() else getattr(value, "__name__", type(value).__name__)


def refuse(part: Any, check: Check, sentence: str) -> None:
    """The check refuses the part, in these words."""
    with pytest.raises(Broken, match=sentence):
        check(part)


def lacking(refused: Mapping[str, Refused], kind: str) -> set[Check]:
    """The checks of a kind that are shown nothing wrong."""
    return set(CHECKS[kind]) - {check for _, check, _ in refused[kind]}
