"""The work of a command on this process's rank."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from ...registry import UserError
from ..console import start_console
from ..launching import LAUNCHER, find_place, stop_with_the_launcher
from ..world import TIMEOUT_S, LocalError, World, join, leave, why_lost

OTHERS_FIRST_S = 2.0  # the rank that failed ends first, and its exit code is the launcher's, which then ends this one


def on_ranks(device: str, work: Callable[[World], None], timeout_s: float = TIMEOUT_S) -> int:
    """Join the ranks and do the work; of a mistake rank 0 speaks, or who alone has seen it.

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
    except UserError as error:
        if isinstance(error, LocalError):
            raise
        # before they have met, a machine may lack what another has
        if place.local_rank == 0 if world is None else world.speaks(str(error)):
            raise
        return 2
    except RuntimeError as error:
        lost = why_lost(error, timeout_s)
        if lost is None:
            raise
        _tell(lost, place.local_rank == 0, place.machines)
        time.sleep(OTHERS_FIRST_S)
        return 1
    finally:
        leave()
    return 0


def _tell(lost: str, first_here: bool, machines: int) -> None:
    """One message a machine; none where a rank on the same screen has said what is wrong."""
    if not lost and machines > 1:
        lost = "a rank on another machine has ended; its screen says why"
    if lost and first_here:
        print(f"error: {lost}", file=sys.stderr, flush=True)
