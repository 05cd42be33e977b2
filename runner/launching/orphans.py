"""A rank does not outlive its launcher, however that one ends."""

from __future__ import annotations

import os
import signal
import threading
import time

LOOK_EVERY_S = 0.5
GRACE = "DMF_GRACE_S"  # in the environment of ranks: how long a stop may take
DEFAULT_GRACE_S = 120


def stop_with_the_launcher(launcher: int) -> None:
    """Watch the launcher; when it is gone, ask this process to stop, and end it after the time of grace.

    Asked by SIGTERM, as a launcher asks: a rank in training writes a checkpoint first.

    Args:
        launcher: Its pid, the parent of this process.
    """
    threading.Thread(target=_watch, args=(launcher,), name="dmf-launcher", daemon=True).start()


def _watch(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(float(os.environ.get(GRACE, DEFAULT_GRACE_S)))
    os.kill(os.getpid(), signal.SIGKILL)
