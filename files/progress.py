"""How far something long has come: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import logging
import os
import sys
import time
from types import TracebackType

from tqdm import tqdm

PLAIN_LINE_EVERY_S = 10.0
log = logging.getLogger("dmf")


class Progress:
    """Tells how far something has come; of several processes the first one does.

    Args:
        what: For example "read pictures".
        total: Units in all; None where it is not known.
        unit: What is counted; ``B`` for bytes, which are told in k, M and G.
    """

    def __init__(self, what: str, total: int | None, unit: str = "") -> None:
        self.what, self.total, self.unit, self.done = what, total, unit, 0
        first, tty = os.environ.get("RANK", "0") == "0", sys.stderr.isatty()
        self.plain = first and not tty
        self.last_line = time.monotonic()
        self.bar = tqdm(
            total=total, desc=what, unit=unit, unit_scale=unit == "B", leave=False, disable=not (first and tty)
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.close()

    def step(self, units: int = 1) -> None:
        """Move on."""
        self.done += units
        self.bar.update(units)
        if self.plain and time.monotonic() - self.last_line > PLAIN_LINE_EVERY_S:
            self.last_line = time.monotonic()
            of = "" if self.total is None else f"/{self._told(self.total)}"
            log.info("%s %s%s", self.what, self._told(self.done), of)

    def _told(self, number: int) -> str:
        return str(tqdm.format_sizeof(number, "B")) if self.unit == "B" else str(number)
