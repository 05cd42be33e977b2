"""`--restart`: the run that holds a folder is asked to write a checkpoint and stop, and another takes its place."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable

import psutil

from ..files.writing import write_text
from ..registry import UserError
from .folder import Holder, RunFolder

LOOKED_EVERY_S, SAID_EVERY_S = 0.1, 5.0


def take_over(folder: RunFolder, patience_s: float, say: Callable[[str], None]) -> None:
    """Wait until nobody holds the folder; who does is asked to stop.

    It is asked by a file in the folder, which reaches a process on any machine that sees it, and by SIGTERM where it
    is a process of this one.

    Args:
        folder: The run's.
        patience_s: How long to wait.
        say: Shows a line.

    Raises:
        UserError: It is held still, or another process was faster to take it; the message says by whom, and what to do.
    """
    began_s = said_s = time.monotonic()
    asked: Holder | None = None
    while (holder := folder.writer()) is not None:
        now_s = time.monotonic()
        if now_s - began_s > patience_s:
            folder.request.unlink(missing_ok=True)
            raise UserError(_too_long(folder, holder, patience_s))
        if asked is None or (holder != asked and not asked.pid):  # who has only just taken it has not said its name
            say(f"asking {holder} to write a checkpoint and leave {folder.path}")
            _terminate(folder, holder)
            asked = holder
        elif holder != asked and holder.pid:
            folder.request.unlink(missing_ok=True)
            raise UserError(_too_late(folder, asked, holder))
        if not folder.request.exists():  # another that waited in vain has withdrawn it
            write_text(folder.request, f"{os.getpid()} {socket.gethostname()}\n")
        if now_s - said_s > SAID_EVERY_S:
            said_s = now_s
            say(f"waiting for {holder}, {now_s - began_s:.0f} of at most {patience_s:.0f} s")
        time.sleep(LOOKED_EVERY_S)
    folder.request.unlink(missing_ok=True)


def _terminate(folder: RunFolder, holder: Holder) -> None:
    """SIGTERM for the holder, if it is a process of this machine: only that one has the lock's file open."""
    if holder.pid == os.getpid() or holder.pid <= 1:
        return
    with contextlib.suppress(psutil.Error, OSError):
        there = [os.path.realpath(file.path) for file in psutil.Process(holder.pid).open_files()]
        if os.path.realpath(folder.lock) in there:
            os.kill(holder.pid, signal.SIGTERM)


def _too_long(folder: RunFolder, holder: Holder, patience_s: float) -> str:
    return (
        f"{folder.path} is still held by {holder} after {patience_s:.0f} s. It may be in a long step, or hang: look at "
        f"{folder.log}. Wait longer with --restart-timeout; or end that process with kill -9 on its machine, and give "
        "the command again: what came after its last checkpoint is trained once more"
    )


def _too_late(folder: RunFolder, asked: Holder, holder: Holder) -> str:
    return (
        f"{asked} has left {folder.path}, and {holder} has taken its place before this command could: another "
        "--restart, or a scheduler that has started the run again. It is not stopped; give the command again if this "
        "one is to take its place"
    )
