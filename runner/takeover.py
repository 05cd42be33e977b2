"""`--restart`: the run that holds a folder is asked to write a checkpoint and stop, and another takes its place."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

import psutil

from ..registry import UserError
from .folder import Holder, RunFolder
from .signals import LOOK

LOOKED_EVERY_S, SAID_EVERY_S = 0.1, 5.0


def take_over(folder: RunFolder, patience_s: float, say: Callable[[str], None]) -> None:
    """Wait until nobody holds the folder; who does is asked to stop.

    It is asked by a file in the folder, which reaches a process on any machine that sees it; one of this machine is
    told to look at once. However the wait ends, nobody is asked any more: who has not heeded it by then goes on.

    Args:
        folder: The run's.
        patience_s: How long to wait until it is heeded, and once more until the folder is free.
        say: Shows a line.

    Raises:
        UserError: It is held still, or another process was faster to take it; the message says by whom, and what to do.
    """
    try:
        _wait(folder, patience_s, say)
    finally:
        folder.withdraw()


def _wait(folder: RunFolder, patience_s: float, say: Callable[[str], None]) -> None:
    since_s = said_s = time.monotonic()
    asked: Holder | None = None
    heeded = False
    while (holder := folder.writer()) is not None:
        now_s = time.monotonic()
        if now_s - since_s > patience_s and (heeded or folder.withdraw()):
            raise UserError((_hangs if heeded else _too_long)(folder, holder, patience_s))
        if not heeded and folder.heeded.exists():
            heeded, since_s = True, now_s
        if asked is None or (holder != asked and not asked.pid):  # who has only just taken it has not said its name
            say(f"asking {holder} to write a checkpoint and leave {folder.path}")
            _ask(folder)
            _wake(folder, holder)
            asked = holder
        elif holder != asked and holder.pid:
            raise UserError(_too_late(folder, asked, holder))
        _ask(folder)  # another that waited in vain may have withdrawn it
        if now_s - said_s > SAID_EVERY_S:
            said_s = now_s
            what = "has heard, and writes its checkpoint" if heeded else "has not heard yet"
            say(f"waiting for {holder}, which {what}: {now_s - since_s:.0f} of at most {patience_s:.0f} s")
        time.sleep(LOOKED_EVERY_S)


def _ask(folder: RunFolder) -> None:
    """Write the request, unless it is there, or heeded.

    Raises:
        UserError: The system refuses.
    """
    if not folder.request.exists() and not folder.heeded.exists():
        try:
            folder.ask()
        except FileNotFoundError:
            pass  # who never began has just removed the folder
        except OSError as error:
            raise UserError(
                f"{folder.request} cannot be written: {error.strerror}. The process there is asked to stop "
                "by it: stop it yourself, or make the folder one that can be written"
            ) from None


def _wake(folder: RunFolder, holder: Holder) -> None:
    """Have the holder look, if it is a process of this machine: only that one has the lock's file open."""
    if holder.pid == os.getpid() or holder.pid <= 1:
        return
    with contextlib.suppress(psutil.Error, OSError):
        there = [os.path.realpath(file.path) for file in psutil.Process(holder.pid).open_files()]
        if os.path.realpath(folder.lock) in there:
            os.kill(holder.pid, LOOK)


def _too_long(folder: RunFolder, holder: Holder, patience_s: float) -> str:
    return (
        f"{folder.path} is still held by {holder} after {patience_s:.0f} s, and is asked for no longer: that process "
        f"goes on. It may be in a long step, or hang: look at {folder.log}. Wait longer with --restart-timeout; or end "
        "it with kill -9 on its machine, and give the command again: what came after its last checkpoint is trained "
        "once more"
    )


def _hangs(folder: RunFolder, holder: Holder, patience_s: float) -> str:
    return (
        f"{folder.path} is still held by {holder}, which has heard that it is to leave and has not done so for "
        f"{patience_s:.0f} s: its checkpoint is large, its disk slow, or it hangs: look at {folder.log}. It does not "
        "go on: give the command again once it has left, or after kill -9 on its machine: what came after its last "
        "whole checkpoint is trained once more"
    )


def _too_late(folder: RunFolder, asked: Holder, holder: Holder) -> str:
    return (
        f"{asked} has left {folder.path}, and {holder} has taken its place before this command could: another "
        "--restart, or a scheduler that has started the run again. It is not stopped; give the command again if this "
        "one is to take its place"
    )
