"""Whether another machine waits for the ranks of this one, or has given up, asked so that no question holds anybody."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator

from torch.distributed.elastic.rendezvous import RendezvousError

ASKED_EVERY_S = 2.0


class Neighbours:
    """Asks the meeting place in a thread of its own: where the network swallows what is sent, no answer ever comes.

    Args:
        ask: How many machines wait at the meeting place, None once one has given up; may raise RendezvousError, and may
            never return.
    """

    def __init__(self, ask: Callable[[], int | None]) -> None:
        self._ask, self._asked_s = ask, -math.inf
        self._found: int | None = 0
        self._turn = threading.Lock()  # torch's handler is not made for two threads at once

    def waiting(self) -> int | None:
        """How many machines wait, or None, as far as is known by now; returns at once."""
        if time.monotonic() - self._asked_s > ASKED_EVERY_S and self._turn.acquire(blocking=False):
            self._asked_s = time.monotonic()
            threading.Thread(target=self._answer, name="dmf-neighbours", daemon=True).start()
        return self._found

    def _answer(self) -> None:
        try:
            self._found = self._ask()
        except RendezvousError:  # out of reach for now: then nobody is known to wait
            self._found = 0
        finally:
            self._turn.release()

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """No question is under way meanwhile, and what was known is forgotten. Waits for one that is."""
        with self._turn:
            self._found = 0
            yield
