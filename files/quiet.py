"""What decoders print while they work is kept from the screen: who asked hears of it in an error, or not at all."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from types import TracebackType


def no_warnings(package: str) -> None:
    """Pass over a package's Python warnings from now on, and over what it logs unless somebody has asked for logs.

    Once for all: to set filters for a while and then back is not safe where several threads do it.
    """
    logger = logging.getLogger(package)
    if not logger.handlers:  # without one anywhere, Python prints what is logged
        logger.addHandler(logging.NullHandler())
    pattern = rf"{package}\."
    if not any(getattr(one[3], "pattern", "") == pattern for one in warnings.filters):
        warnings.filterwarnings("ignore", category=Warning, module=pattern)


class Silence:
    """Passes over what goes to the process's stderr: a library in C, such as libtiff, writes there by itself.

    Several threads may be inside together; the last one out gives stderr back.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._kept = threading.Lock(), 0, -1

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._shut()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._kept >= 0:
                os.dup2(self._kept, 2)
                os.close(self._kept)
                self._kept = -1

    def _shut(self) -> None:
        try:
            self._kept = os.dup(2)
        except OSError:  # it is closed: nothing can be written there
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)


NO_NOISE = Silence()
