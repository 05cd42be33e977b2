"""What a person sees: plain lines and progress bars, on rank 0 only; every line also goes to the run's log file."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

log = logging.getLogger("dmf")
PLAIN_LINE_EVERY_S = 10.0


class _Screen(logging.Handler):
    """Lines that do not tear a progress bar apart."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        tqdm.write(prefix + record.getMessage(), file=stream)


def start_console(rank: int) -> None:
    """Set the ``dmf`` logger up for this process; ranks above 0 are silent."""
    log.handlers[:] = [_Screen()] if rank == 0 else [logging.NullHandler()]
    log.setLevel(logging.INFO)
    log.propagate = False


def log_to(file: Path) -> logging.Handler:
    """Also write every line to ``file``, with its time."""
    handler = logging.FileHandler(file, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    return handler


class Progress:
    """A bar on a terminal, a plain line now and then elsewhere, nothing on ranks above 0.

    Args:
        what: For example "train".
        total: Units in all.
        start: Units that are done already.
        images: Images per unit, for images/s; 0 leaves the rate out.
        shown: False keeps it silent.
    """

    def __init__(self, what: str, total: int, start: int = 0, images: int = 0, shown: bool = True) -> None:
        self.what, self.total, self.done, self.start, self.images = what, total, start, start, images
        self.began = self.last_line = time.perf_counter()
        self.notes: dict[str, str] = {}
        bar_format = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}, {remaining} left{postfix}]"
        tty = sys.stderr.isatty()
        self.plain = shown and not tty
        self.bar = tqdm(total=total, initial=start, desc=what, bar_format=bar_format, disable=not (shown and tty))

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.close()

    def step(self, units: int = 1) -> None:
        """Move on."""
        self.done += units
        self.bar.update(units)
        now = time.perf_counter()
        if self.plain and (now - self.last_line > PLAIN_LINE_EVERY_S or self.done == self.total):
            self.last_line = now
            log.info(self._line(now))

    def note(self, **values: str) -> None:
        """Show values beside the bar."""
        self.notes.update(values)
        shown = {**self.notes, **({"images/s": f"{self.images_per_second():.0f}"} if self.images else {})}
        self.bar.set_postfix(shown, refresh=False)

    def images_per_second(self) -> float:
        """Since the start of this progress."""
        return (self.done - self.start) * self.images / max(time.perf_counter() - self.began, 1e-9)

    def _line(self, now: float) -> str:
        left_s = (now - self.began) / max(self.done - self.start, 1) * (self.total - self.done)
        parts = [f"{self.what} {self.done}/{self.total}", *(f"{k} {v}" for k, v in self.notes.items())]
        parts += [f"{self.images_per_second():.0f} images/s"] if self.images else []
        return ", ".join([*parts, f"{left_s:.0f} s left"])
