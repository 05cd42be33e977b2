"""Ctrl-C and SIGTERM: asked for, then done at a safe place."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType, TracebackType

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
    """

    def __init__(self, heard: bool = True) -> None:
        self.heard = heard
        self.requested = 0
        self._when_s = 0.0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Signals:
        for signum in (signal.SIGINT, signal.SIGTERM):
            self._before[signum] = signal.signal(signum, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]

    def check(self) -> None:
        """Raise `Interrupted` if a stop was asked for."""
        if self.requested:
            raise Interrupted(self.requested)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.requested and signum == signal.SIGINT and now - self._when_s > IMPATIENT_AFTER_S:
            raise Interrupted(signum)
        if not self.requested:
            self.requested, self._when_s = signum, now
            if self.heard:  # a plain write: whatever the signal interrupted may hold a lock
                os.write(2, b"\nstopping at the next safe place; Ctrl-C again stops at once\n")
