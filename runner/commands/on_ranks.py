"""The work of a command on this process's rank."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

from ...registry import UserError
from ..console import start_console
from ..launching import LAUNCHER, Place, find_place, stop_with_the_launcher
from ..signals import Interrupted
from ..trouble import Failure, told_of_memory, told_of_room
from ..world import TIMEOUT_S, LocalError, World, end_at_once, join, leave, waits_in_leaving, why_lost

OTHERS_FIRST_S = 2.0  # the rank that failed ends first, and its exit code is the launcher's, which then ends this one


def on_ranks(device: str, work: Callable[[World], None], timeout_s: float = TIMEOUT_S) -> int:
    """Join the ranks, do the work, and leave; what went wrong is told here, and before this rank leaves.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        work: What is done.
        timeout_s: How long a rank waits for another before the run ends with an error.

    Returns:
        The exit code.
    """
    place = find_place()
    if place.launcher == "torchrun":  # srun and mpirun end what they started by themselves
        stop_with_the_launcher(int(os.environ.get(LAUNCHER, os.getppid())))
    world: World | None = None
    try:
        world = join(device, timeout_s)
        start_console(world.rank)
        work(world)
    except BaseException as error:
        code = _told(error, place, world, timeout_s)
        if waits_in_leaving():
            if code is None:
                sys.excepthook(type(error), error, error.__traceback__)
            end_at_once(1 if code is None else code)
        leave()
        if code is None:
            raise
        return code
    leave()
    return 0


def _told(error: BaseException, place: Place, world: World | None, timeout_s: float) -> int | None:
    """Say what went wrong, if it is for this rank to say; the exit code, None where it takes a traceback."""
    if isinstance(error, Interrupted):  # whose command has said how to go on
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        print("stopped", file=sys.stderr, flush=True)
        return 128 + signal.SIGINT
    if isinstance(error, (UserError, Failure)):
        if _speaks(error, place, world):
            print(f"error: {error}", file=sys.stderr, flush=True)
        if world is not None and not isinstance(error, LocalError):
            world.stay_to_be_heard(str(error))
        return error.exit_code
    if said := told_of_memory(error) or told_of_room(error):
        print(f"error: {said}", file=sys.stderr, flush=True)
        return 1
    lost = why_lost(error, timeout_s) if isinstance(error, RuntimeError) else None
    if lost is None:
        return None
    _tell_lost(lost, place)
    time.sleep(OTHERS_FIRST_S)
    return 1


def _speaks(error: UserError | Failure, place: Place, world: World | None) -> bool:
    """Whether this rank says what is wrong: rank 0, or who alone has met it."""
    if isinstance(error, LocalError):
        return True
    if world is None:  # before they have met, a machine may lack what another has
        return place.local_rank == 0
    return world.speaks(str(error))


def _tell_lost(lost: str, place: Place) -> None:
    """One message a machine; none where a rank on the same screen has said what is wrong."""
    if not lost and place.machines > 1:
        lost = "a rank on another machine has ended; its screen says why"
    if lost and place.local_rank == 0:
        print(f"error: {lost}", file=sys.stderr, flush=True)
