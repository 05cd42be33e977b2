"""How far something long has come: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import logging
import os
import sys
import time
from types import TracebackType
from typing import ClassVar, TypeVar

from tqdm import tqdm

PLAIN_LINE_EVERY_S = 10.0
Self = TypeVar("Self", bound="Progress")
log = logging.getLogger("dmf")


class Progress:
    """Tells how far something has come, and nothing more once it is done.

    Args:
        what: For example "read pictures".
        total: Units in all; None where it is not known.
        unit: What is counted; ``B`` for bytes, which are told in k, M and G.
        start: Units that are done already.
        shown: False keeps it silent; None is silent in all processes of a run but the first.
    """

    BAR: ClassVar[str | None] = None
    STAYS: ClassVar[bool] = False  # whether the bar, or a last line, is left to read when all is done

    def __init__(
        self, what: str, total: int | None, unit: str = "", *, start: int = 0, shown: bool | None = None
    ) -> None:
        self.what, self.total, self.unit, self.done, self.start = what, total, unit, start, start
        shown, tty = os.environ.get("RANK", "0") == "0" if shown is None else shown, sys.stderr.isatty()
        self.plain = shown and not tty
        self.began = self.last_line = time.perf_counter()
        self.bar = tqdm(
            total=total,
            initial=start,
            desc=what,
            unit=unit,
            unit_scale=unit == "B",
            bar_format=self.BAR,
            leave=self.STAYS,
            disable=not (shown and tty),
        )

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.close()

    def step(self, units: int = 1) -> None:
        """Move on."""
        self.done += units
        self.bar.update(units)
        now, ended = time.perf_counter(), self.STAYS and self.done == self.total
        if self.plain and (now - self.last_line > PLAIN_LINE_EVERY_S or ended):
            self.last_line = now
            log.info(self.line())

    def line(self) -> str:
        """How far it is, in a line."""
        of = "" if self.total is None else f"/{self._told(self.total)}"
        return f"{self.what} {self._told(self.done)}{of}"

    def _told(self, number: int) -> str:
        return str(tqdm.format_sizeof(number, "B")) if self.unit == "B" else str(number)
