"""What a rank may take of its machine: its part, of a container or a job no more than that has left."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from dmf.runner import host_memory
from dmf.runner.host_memory import free_on_host, most_taken
from dmf.runner.launching import Place
from dmf.runner.training.memory import free_bytes

GIB = 2**30


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """8 GiB free, and a process alone."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Host", (), {"available": 8 * GIB})())
    monkeypatch.setattr(host_memory, "find_place", Place)


def group(root: Path, folder: str, **files: str) -> None:
    place = root / "sys/fs/cgroup" / folder
    place.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (place / name.replace("__", ".")).write_text(f"{text}\n")


def member(root: Path, lines: str) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(lines)


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "4(x2)", "SLURM_STEP_NUM_TASKS": "8"},
        {"OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "3"},
    ],
    ids=["srun", "mpirun"],
)
def test_each_rank_has_its_part_whoever_started_it(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from dmf.runner.launching import find_place

    rest = {"MASTER_ADDR": "n1", "MASTER_PORT": "29500", "OMPI_COMM_WORLD_LOCAL_SIZE": "4"}
    step = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_NODEID": "0"}
    env = {**rest, **step, "SLURM_STEP_NODELIST": "n[1-2]", **variables}
    monkeypatch.setattr(host_memory, "find_place", lambda: find_place(env))
    assert free_on_host(tmp_path) == 2 * GIB


def test_a_container_has_no_more_than_its_limit(tmp_path: Path) -> None:
    member(tmp_path, "0::/\n")
    stat = f"anon {GIB}\nactive_file {GIB // 2}\ninactive_file {GIB // 2}"
    group(tmp_path, "", memory__max=str(4 * GIB), memory__current=str(3 * GIB), memory__stat=stat)
    assert free_on_host(tmp_path) == 2 * GIB  # what is but cached can be taken


def test_the_limits_of_a_job_hold_for_its_steps(tmp_path: Path) -> None:
    member(tmp_path, "1:cpu,cpuacct:/elsewhere\n0::/job_7/step_0/task_1\n")
    stat = "anon 0"
    group(tmp_path, "job_7", memory__max=str(3 * GIB), memory__current=str(2 * GIB), memory__stat=stat)
    group(tmp_path, "job_7/step_0", memory__max="max", memory__current=str(2 * GIB), memory__stat=stat)
    assert free_on_host(tmp_path) == GIB


def test_so_it_is_with_the_older_groups(tmp_path: Path) -> None:
    member(tmp_path, "4:memory:/slurm/job_7\n0::/\n")
    stat = f"cache 0\ntotal_active_file 0\ntotal_inactive_file {GIB}"
    limit = {"memory__limit_in_bytes": str(6 * GIB), "memory__usage_in_bytes": str(7 * GIB)}
    group(tmp_path, "memory/slurm/job_7", **limit, memory__stat=stat)
    group(tmp_path, "memory", memory__limit_in_bytes=str(2**63 - 4096), memory__usage_in_bytes="0", memory__stat=stat)
    assert free_on_host(tmp_path) == 0  # not less: it may be over its limit for a moment
    group(tmp_path, "memory/slurm/job_7", memory__usage_in_bytes=str(5 * GIB))
    assert free_on_host(tmp_path) == 2 * GIB


def test_without_limits_what_the_machine_has_free(tmp_path: Path) -> None:
    assert free_on_host(tmp_path) == 8 * GIB
    assert 0 < free_bytes(torch.device("cpu")) <= 8 * GIB


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="elsewhere a process has what its parent held, too")
def test_the_most_that_a_process_held_is_its_own() -> None:
    """A starting process has its parent's highest mark from `getrusage`, and all it takes below that is not seen."""
    ballast = b"1" * (600 << 20)  # more than the child takes
    code = "from dmf.runner.host_memory import most_taken as most; print(most()); x = b'1' * (200 << 20); print(most())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert 0 < before < len(ballast) / 2 and 190 << 20 < after - before < 210 << 20


def test_the_most_that_a_process_held_is_said_without_proc(tmp_path: Path) -> None:
    assert most_taken(tmp_path) >= most_taken() / 2 > 0
