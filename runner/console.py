"""What a person sees: plain lines and progress bars, on rank 0 only; every line also goes to the run's log file."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

from ..files.progress import Progress
from ..registry.errors import UserError

log = logging.getLogger("dmf")


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


class _LogFile(logging.FileHandler):
    """A file that a full disk does not make a traceback on the screen, where every line stands anyway."""

    def handleError(self, record: logging.LogRecord) -> None:
        print(f"warning: {self.baseFilename} cannot be written: {sys.exc_info()[1]}", file=sys.stderr)
        log.removeHandler(self)


@contextlib.contextmanager
def log_to(file: Path, began: Callable[[], bool]) -> Iterator[None]:
    """Also write every line to ``file``, with its time, and the error that ends it all, if it is no user's mistake.

    Args:
        file: The run's.
        began: Whether the run did, asked when it fails: one that never began leaves no file.
    """
    handler = _LogFile(file, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    try:
        yield
    except BaseException as error:
        if not began():
            file.unlink(missing_ok=True)
        elif not isinstance(error, (UserError, KeyboardInterrupt)):
            handler.handle(log.makeRecord("dmf", logging.ERROR, "", 0, "the run failed", (), sys.exc_info()))
        raise
    finally:
        log.removeHandler(handler)
        handler.close()


class TaskProgress(Progress):
    """That of what a command was asked for: with the time that is left, values beside it, and a line at the end.

    Args:
        what: For example "train".
        total: Units in all.
        start: Units that are done already.
        images: Images per unit, for images/s; 0 leaves the rate out.
        shown: False keeps it silent; None is silent in all processes of a run but the first.
    """

    BAR = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}, {remaining} left{postfix}]"
    STAYS = True

    def __init__(self, what: str, total: int, start: int = 0, images: int = 0, shown: bool | None = None) -> None:
        super().__init__(what, total, start=start, shown=shown)
        self.images, self.units = images, total
        self.notes: dict[str, str] = {}

    def note(self, **values: str) -> None:
        """Show values beside the bar."""
        self.notes.update(values)
        shown = {**self.notes, **({"images/s": f"{self.images_per_second():.0f}"} if self.images else {})}
        self.bar.set_postfix(shown, refresh=False)

    def images_per_second(self) -> float:
        """Since the start of this progress."""
        return (self.done - self.start) * self.images / max(time.perf_counter() - self.began, 1e-9)

    def line(self) -> str:
        """How far it is, with the values and the time that is left."""
        took_s = time.perf_counter() - self.began
        left_s = took_s / max(self.done - self.start, 1) * (self.units - self.done)
        parts = [super().line(), *(f"{k} {v}" for k, v in self.notes.items())]
        parts += [f"{self.images_per_second():.0f} images/s"] if self.images else []
        return ", ".join([*parts, f"{left_s:.0f} s left"])
