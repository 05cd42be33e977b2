"""What srun tells the processes that it starts.

Only the variables of a step (SLURM_STEP_...) count: those of the job are also there in a batch script and in the shell
of salloc, where one process runs and nobody has started the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

FIRST_PORT, PORTS = 15000, 15000  # below the ports that Linux gives out by itself


def joins(env: Mapping[str, str]) -> bool:
    """Whether srun has started this process as one of several."""
    tasks = env.get("SLURM_STEP_NUM_TASKS", "1")
    return "SLURM_PROCID" in env and "SLURM_STEP_NODELIST" in env and tasks.isdecimal() and int(tasks) > 1


def first_host(nodes: str) -> str:
    """The first host of a list as SLURM writes it: node[01-04,07],other is node01; row[2-3]-n[1,5] is row2-n1."""
    inside = re.sub(r"\[([^],-]*)[^]]*\]", r"\1", nodes)  # of each bracket its first number, with its zeros
    return inside.partition(",")[0]


def tasks_per_node(text: str) -> list[int]:
    """Processes on each machine: 2(x3),1 is 2, 2, 2, 1."""
    found: list[int] = []
    for tasks, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        found += [int(tasks)] * int(times or 1)
    return found


def port_of(job: int, step: int) -> int:
    """A port that each step of each job has for itself, as good as surely; the same on every machine."""
    return FIRST_PORT + (job * 7 + step) % PORTS


def gpus_of_node(env: Mapping[str, str]) -> int:
    """GPUs that the job has on this machine, a process perhaps seeing but one of them; 0 where SLURM does not say."""
    text = env.get("SLURM_GPUS_ON_NODE", "0")
    return int(text) if text.isdecimal() else 0
