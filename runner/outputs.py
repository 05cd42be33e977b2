"""Files that a command is asked for: looked at before the long work, written after it, none lost with another.

Whether something can be written is tried, not asked: permissions say nothing of a read-only disk, and of a network's
not all.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from ..registry.errors import UserError

log = logging.getLogger("dmf")


def why_not(place: Path) -> str | None:
    """What is against writing a file, or files in a folder; either may be there or not. None if nothing is.

    Leaves nothing behind.
    """
    place = place.absolute()
    try:
        if place.is_file():
            with open(place, "ab"):
                pass
            place = place.parent
        place = next(one for one in (place, *place.parents) if one.exists())
        with tempfile.TemporaryFile(dir=place):
            return None
    except OSError as error:
        return f"{place}: {error.strerror or error}"


class Outputs:
    """Writes files, each whatever became of those before it; left last, an error tells of all that could not be.

    Used with ``with``: the error comes at the end of the block, unless that ends in one of its own.

    Raises:
        UserError: Some could not be written.
    """

    def __init__(self) -> None:
        self.missing: list[str] = []

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self.missing:
            return
        if kind is not None:  # that one is told, too
            log.error("%s", "; ".join(self.missing))
            return
        raise UserError(f"{'; '.join(self.missing)}; make room, or name another place")

    def write(self, path: Path, work: Callable[[], object]) -> bool:
        """Whether a file, or the files of a folder, are written.

        Args:
            path: It.
            work: Writes.
        """
        try:
            work()
        except OSError as error:
            self.missing.append(f"{path} could not be written: {error.strerror or error}")
            return False
        return True
