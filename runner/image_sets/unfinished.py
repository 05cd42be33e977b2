"""Folders of pictures that a command wrote, and ended before the last: no set that could be scored."""

from __future__ import annotations

from pathlib import Path

from ...files.words import printable
from ...registry import UserError

UNFINISHED = "unfinished.txt"  # there from the first picture to the last


def check_finished(place: Path, remedy: str) -> None:
    """Accept a folder that is no part of a set.

    Raises:
        UserError: A command that wrote pictures into it ended before the last.
    """
    if (place / UNFINISHED).exists():
        raise UserError(
            f"{printable(str(place))} holds a part of the pictures that a command was to write, which ended before the "
            f"last ({UNFINISHED} says so): {remedy}"
        )
