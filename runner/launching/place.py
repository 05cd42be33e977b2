"""Which process of how many this one is: what a launcher that started it says in the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from ...registry.errors import UserError
from . import slurm

HOPELESS = 3  # exit code of a rank for our own launcher: it would fail in the same way again; the launcher's is 1
LAST_PORT = 65535
LAUNCHER = "DMF_LAUNCHER"  # the pid of our own launcher, in the environment of its ranks


@dataclass(frozen=True)
class Place:
    """One process among those of a run.

    Attributes:
        rank: 0 ... size - 1.
        size: Number of processes, on all machines.
        local_rank: Among those of this machine.
        local_size: Number of processes on this machine.
        machines: Number of machines.
        address: Where rank 0 is met: host and port; None for a process alone.
        launcher: Who started it; empty for a process alone.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    machines: int = 1
    address: tuple[str, int] | None = None
    launcher: str = ""


def find_place(env: Mapping[str, str] = os.environ) -> Place:
    """This process's place.

    Args:
        env: The environment.

    Raises:
        UserError: The launcher's variables contradict each other, or lack something.
    """
    if "RANK" in env and "WORLD_SIZE" in env:
        return _checked(_torchrun(env))
    if number(env, "OMPI_COMM_WORLD_SIZE", 1) > 1:  # before SLURM: mpirun starts its helpers by srun
        return _checked(_mpirun(env))
    if slurm.joins(env):
        return _checked(_srun(env))
    return Place()


def launched_by_us() -> bool:
    """Whether our own launcher has started this process."""
    return LAUNCHER in os.environ and "RANK" in os.environ


def bound_gpus(launcher: str) -> int:
    """GPUs of this machine that the launcher has given out, one to each process, which sees no other; 0 if unknown."""
    return slurm.gpus_of_node(os.environ) if launcher == "srun" else 0


def number(env: Mapping[str, str], name: str, default: int | None = None) -> int:
    """A whole number of the environment.

    Raises:
        UserError: It is none, or it is not there and has no default.
    """
    text = _text(env, name) if default is None else env.get(name, str(default))
    if not text.isdecimal():
        raise UserError(f"the environment variable {name} is {text!r}, and a launcher sets it to a whole number")
    return int(text)


def _text(env: Mapping[str, str], name: str) -> str:
    if not env.get(name):
        raise UserError(
            f"the environment variable {name} is not set or empty, and others say that a launcher started this process "
            "as one of several, which sets it: let srun, mpirun or torchrun start dmf itself, with all its variables"
        )
    return env[name]


def _torchrun(env: Mapping[str, str]) -> Place:
    size = number(env, "WORLD_SIZE")
    where = None
    if size > 1:
        where = (_host(env, "torchrun"), _port(env))
    local = number(env, "LOCAL_RANK", 0), number(env, "LOCAL_WORLD_SIZE", 1)
    return Place(number(env, "RANK"), size, *local, number(env, "GROUP_WORLD_SIZE", 1), where, "torchrun")


def _mpirun(env: Mapping[str, str]) -> Place:
    def of(name: str) -> int:
        return number(env, f"OMPI_COMM_WORLD_{name}")

    size, here = of("SIZE"), of("LOCAL_SIZE")
    host = "127.0.0.1" if here == size and "MASTER_ADDR" not in env else _host(env, "mpirun")
    machines = -(-size // max(here, 1))
    return Place(of("RANK"), size, of("LOCAL_RANK"), here, machines, (host, _port(env, 29500)), "mpirun")


def _srun(env: Mapping[str, str]) -> Place:
    def of(name: str) -> int:
        return number(env, f"SLURM_{name}")

    host = env.get("MASTER_ADDR") or slurm.first_host(_text(env, "SLURM_STEP_NODELIST"))
    port = _port(env, slurm.port_of(of("JOB_ID"), of("STEP_ID")))
    tasks, node = _text(env, "SLURM_STEP_TASKS_PER_NODE"), of("NODEID")
    here = slurm.tasks_per_node(tasks)
    if node >= len(here):
        raise UserError(
            f"SLURM_NODEID is {node}, and SLURM_STEP_TASKS_PER_NODE, {tasks!r}, is of {len(here)} machine(s), numbered "
            "from 0: that cannot be; are variables of two launchers or steps mixed?"
        )
    return Place(of("PROCID"), of("STEP_NUM_TASKS"), of("LOCALID"), here[node], len(here), (host, port), "srun")


def _host(env: Mapping[str, str], launcher: str) -> str:
    if not env.get("MASTER_ADDR"):
        raise UserError(
            f"{launcher} has started several processes and does not say where they meet: set MASTER_ADDR to the host "
            "of rank 0, and MASTER_PORT to a free port there"
        )
    return env["MASTER_ADDR"]


def _port(env: Mapping[str, str], default: int | None = None) -> int:
    port = number(env, "MASTER_PORT", default)
    if not 0 < port <= LAST_PORT:
        raise UserError(f"the environment variable MASTER_PORT is {port}, and ports are numbered from 1 to {LAST_PORT}")
    return port


def _checked(place: Place) -> Place:
    if not (place.rank < place.size and place.local_rank < place.local_size <= place.size):
        raise UserError(
            f"{place.launcher} says that this is rank {place.rank} of {place.size}, and number {place.local_rank} of "
            f"{place.local_size} on this machine: that cannot be; are variables of two launchers mixed?"
        )
    return place
