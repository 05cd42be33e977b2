"""The work of a command on this process's rank."""

from __future__ import annotations

import time
from collections.abc import Callable

from ...registry import UserError
from ..console import start_console
from ..world import LocalError, World, join, leave, lost_another

OTHERS_FIRST_S = 5.0  # the rank that failed ends first, and its exit code is the launcher's, which then ends this one


def on_ranks(device: str, work: Callable[[World], None]) -> int:
    """Join the ranks and do the work; of a mistake rank 0 speaks, or who alone has seen it.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        work: What is done.

    Returns:
        The exit code.
    """
    world = join(device)
    start_console(world.rank)
    try:
        work(world)
    except UserError as error:
        if world.first or isinstance(error, LocalError):
            raise
        return 2
    except RuntimeError as error:
        if not lost_another(error):
            raise
        time.sleep(OTHERS_FIRST_S)
        return 1
    finally:
        leave()
    return 0
