"""How much memory of its machine a process may still take, and has taken: of a container or a job, what that has left.

Linux limits both by control groups, `/proc/self/cgroup` naming a process's own; the limits of those around it hold too.
Read are the newer form (all in one tree, kernel's documentation cgroup-v2, section "Memory") and the older
(cgroup-v1/memory). The page cache counts as used there, and is given up when memory is asked for: here it is free.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from .launching import find_place

NEWER = ("memory.max", "memory.current", ("active_file", "inactive_file"))
OLDER = ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file"))


def free_on_host(root: Path = Path("/")) -> int:
    """Bytes that this process may take, if each rank of this machine takes as many.

    Args:
        root: Of the file system in which the control groups are looked up.
    """
    return min([int(psutil.virtual_memory().available), *_left(root)]) // find_place().local_size


def most_taken(root: Path = Path("/")) -> int:
    """Bytes of memory that this process has held at its highest.

    Linux says it of the program that runs now. `getrusage`, asked elsewhere, may say it of all that ever ran in the
    process; as this begins as a copy of the one that starts it, that is no less than what that one had.

    Args:
        root: Of the file system in which the process is looked up.
    """
    try:
        lines = (root / "proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    for name, _, value in (line.partition(":") for line in lines):
        if name == "VmHWM":
            return int(value.split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _left(root: Path) -> Iterator[int]:
    """What each group that this process is in has left."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        group = top / path.strip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(top):
                yield from _left_in(folder, *(OLDER if controllers else NEWER))


def _left_in(group: Path, most: str, used: str, cached: tuple[str, ...]) -> Iterator[int]:
    try:
        limit = (group / most).read_text(encoding="utf-8").strip()
        taken = int((group / used).read_text(encoding="utf-8"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text(encoding="utf-8").splitlines())
    except OSError:  # without a limit of its own, or it cannot be seen from inside
        return
    if limit != "max":
        yield max(0, int(limit) - taken + sum(int(stat.get(name, 0)) for name in cached))
