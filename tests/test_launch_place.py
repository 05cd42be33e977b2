"""Which process of how many this one is: what launchers say in the environment, whole, mixed and half there."""

import pytest

from dmf.registry import UserError
from dmf.runner.launching.place import Place, find_place
from dmf.runner.launching.slurm import first_host, port_of, tasks_per_node

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "2"}
TORCHRUN |= {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
JOB = {"SLURM_JOB_ID": "1234", "SLURM_NTASKS": "8", "SLURM_NODELIST": "node[01-02]", "SLURM_TASKS_PER_NODE": "4(x2)"}
STEP = JOB | {
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NODELIST": "node[01-02]",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
}
MPI = {f"OMPI_COMM_WORLD_{k}": v for k, v in {"RANK": "1", "SIZE": "2", "LOCAL_RANK": "1", "LOCAL_SIZE": "2"}.items()}


def test_places() -> None:
    assert find_place({}) == Place()
    assert find_place(TORCHRUN) == Place(3, 4, 1, 2, 2, ("node1", 29500), "torchrun")
    assert find_place(STEP) == Place(5, 8, 1, 4, 2, ("node01", port_of(1234, 0)), "srun")
    assert find_place(STEP | {"MASTER_ADDR": "x", "MASTER_PORT": "5"}).address == ("x", 5)
    assert find_place(MPI) == Place(1, 2, 1, 2, 1, ("127.0.0.1", 29500), "mpirun")
    assert find_place(STEP | MPI).launcher == "mpirun"  # which starts its helpers by srun
    assert find_place(STEP | TORCHRUN).launcher == "torchrun"


@pytest.mark.parametrize(
    "env",
    [
        JOB,  # the shell of salloc
        JOB | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"},  # a batch script
        STEP | {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"},  # srun of one task in an allocation of eight
    ],
)
def test_one_process_in_an_allocation_is_alone(env: dict[str, str]) -> None:
    assert find_place(env) == Place()


@pytest.mark.parametrize(
    ("env", "why"),
    [
        (TORCHRUN | {"RANK": "4"}, "rank 4 of 4"),
        (TORCHRUN | {"WORLD_SIZE": "four"}, "WORLD_SIZE is 'four'"),
        ({k: v for k, v in TORCHRUN.items() if k != "MASTER_ADDR"}, "set MASTER_ADDR"),
        (MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}, "set MASTER_ADDR"),
        (MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "0", "MASTER_ADDR": "x"}, "number 1 of 0 on this machine"),
        *[
            ({k: v for k, v in STEP.items() if k != name}, f"{name} is not set or empty")
            for name in sorted(
                STEP.keys() - JOB.keys() - {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST"}
            )
        ],
        ({k: v for k, v in STEP.items() if k != "SLURM_JOB_ID"}, "SLURM_JOB_ID is not set"),
        *[(env | {"MASTER_PORT": "65536"}, "MASTER_PORT is 65536, and ports are") for env in (TORCHRUN, MPI, STEP)],
        (TORCHRUN | {"MASTER_PORT": "0"}, "MASTER_PORT is 0, and ports are numbered from 1 to 65535"),
        (STEP | {"SLURM_STEP_NODELIST": ""}, "SLURM_STEP_NODELIST is not set or empty"),
        (STEP | {"SLURM_NODEID": "2"}, r"SLURM_NODEID is 2, and .*'4\(x2\)', is of 2 machine"),
        (STEP | {"SLURM_STEP_TASKS_PER_NODE": "all"}, "is of 0 machine"),
    ],
)
def test_a_mixture_is_refused(env: dict[str, str], why: str) -> None:
    with pytest.raises(UserError, match=why):
        find_place(env)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node7", "node7"),
        ("node[01-04,07]", "node01"),
        ("node[007,009-012],other3", "node007"),
        ("a,b[1-2]", "a"),
        ("row[2-3]-n[5,9]", "row2-n5"),
        ("gpu-a[10-19].cluster", "gpu-a10.cluster"),
    ],
)
def test_first_host(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


def test_tasks_and_ports() -> None:
    assert tasks_per_node("2(x3),1") == [2, 2, 2, 1]
    ports = {port_of(job, step) for job in range(1000) for step in (0, 1)}
    assert len(ports) > 1900 and min(ports) > 1024 and max(ports) < 32768
