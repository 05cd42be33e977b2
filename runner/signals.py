"""Ctrl-C, SIGTERM and requests of another process to stop: heard, then done at a safe place."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable
from types import FrameType, TracebackType

LOOKED_EVERY_S = 0.5  # for a request, which may lie on a network's file system
LOOK = signal.SIGURG  # look for a request now; a process that does not know of it is not disturbed by it
IMPATIENT_AFTER_S = 2.0  # launchers pass one Ctrl-C on twice, a moment apart; a person takes longer


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop, and did so at a safe place.

    Attributes:
        signum: SIGINT or SIGTERM.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """What a shell expects: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.signum


class Signals:
    """While it is entered, SIGINT and SIGTERM only set ``requested``; an impatient second Ctrl-C stops at once.

    Args:
        heard: Whether to say that the signal was heard; True on rank 0.

    Attributes:
        at_once: Whether one stops at once, since nothing would be lost: while a first step is compiled, say.
        asked: Takes the request of another process to stop, if there is one, which counts as SIGTERM; None where nobody
            can ask.
    """

    def __init__(self, heard: bool = True) -> None:
        self.heard = heard
        self.at_once = False
        self.asked: Callable[[], bool] | None = None
        self._signum = 0
        self._when_s = self._looked_s = 0.0
        self._before: dict[int, object] = {}

    @property
    def requested(self) -> int:
        """The signal that was heard, 0 for none; it is looked for requests now and then."""
        now_s = time.monotonic()
        if not self._signum and self.asked is not None and now_s - self._looked_s > LOOKED_EVERY_S:
            self._looked_s = now_s
            if self.asked():
                self._hear(signal.SIGTERM, b"\nanother dmf asks for this folder; stopping at the next safe place\n")
        return self._signum

    def __enter__(self) -> Signals:
        for signum in (signal.SIGINT, signal.SIGTERM):
            self._before[signum] = signal.signal(signum, self._on_signal)
        self._before[LOOK] = signal.signal(LOOK, self._on_look)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]

    def check(self) -> None:
        """Raise `Interrupted` if a stop was asked for."""
        if asked := self.requested:
            raise Interrupted(asked)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        now_s = time.monotonic()
        is_impatient = signum == signal.SIGINT and now_s - self._when_s > IMPATIENT_AFTER_S
        if (self._signum and is_impatient) or self.at_once:
            self._signum = self._signum or signum  # should what it interrupts catch it, the next safe place knows
            # a launcher passes one Ctrl-C on twice, a scheduler sends SIGTERM after it: they spare the clean-up
            self.at_once, self._when_s = False, now_s
            raise Interrupted(signum)
        if not self._signum:
            self._hear(signum, b"\nstopping at the next safe place; Ctrl-C again stops at once\n")

    def _on_look(self, signum: int, frame: FrameType | None) -> None:
        self._looked_s = -math.inf
        if self.at_once and self.requested:
            self.at_once = False
            raise Interrupted(self._signum)

    def _hear(self, signum: int, text: bytes) -> None:
        self._signum, self._when_s = signum, time.monotonic()
        if self.heard:  # a plain write: whatever the signal interrupted may hold a lock
            os.write(2, text)
