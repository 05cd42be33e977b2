"""What is started for which flags on which machine, where ranks meet, and what is said of how they end."""

import argparse
import os
import socket
import threading
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
import torch

from dmf.registry import UserError
from dmf.runner.cli import parse
from dmf.runner.launching import Plan, add_launch, plan_for
from dmf.runner.launching.endpoint import reach, split_address
from dmf.runner.launching.launch import _for_ranks

LAUNCHERS = ("RANK", "WORLD_SIZE", "DMF_LAUNCHER", "SLURM_", "OMPI_", "MASTER_", "CUDA_VISIBLE", "OMP_", "GLOO_")


@pytest.fixture(autouse=True)
def nobody_has_started_us(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(LAUNCHERS):
            monkeypatch.delenv(name)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A machine with so many GPUs."""

    def there(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    there(0)
    return there


def plan(words: str, device: str = "auto") -> Plan | None:
    parser = argparse.ArgumentParser()
    add_launch(parser)
    return plan_for(parser.parse_args(words.split()), device, "mine")


# flags

THERE = [
    ("", "auto", 0, None),
    ("", "auto", 1, None),
    ("", "auto", 4, Plan("mine", 4)),
    ("", "cuda", 2, Plan("mine", 2)),
    ("", "cpu", 4, None),
    ("--gpus 1", "auto", 4, None),
    ("--gpus 3", "auto", 4, Plan("mine", 3)),
    ("--gpu-ids 0,2", "auto", 4, Plan("mine", 2, visible="0,2")),
    ("--gpu-ids 3", "cuda", 4, Plan("mine", 1, visible="3")),
    ("--ranks 2", "cpu", 0, Plan("mine", 2)),
    ("--ranks 2", "auto", 0, Plan("mine", 2)),
    ("--ranks 2", "auto", 4, Plan("mine", 2)),
    ("--ranks 1", "auto", 4, None),
    ("--nodes 2 --rendezvous a:1", "cpu", 0, Plan("mine", 1, 2, "a:1")),
    ("--nodes 2 --rendezvous a:1", "auto", 8, Plan("mine", 8, 2, "a:1")),
    ("--restarts 3", "cpu", 0, Plan("mine", restarts=3)),
    ("--ranks 2 --grace 7", "cpu", 0, Plan("mine", 2, grace_s=7)),
]
NOT = [
    ("--gpus 8", "auto", 4, "this machine has 4 GPUs"),
    ("--gpus 1", "auto", 0, "no GPUs that torch can use"),
    ("--ranks 8", "auto", 4, "each rank needs its own"),
    ("--gpu-ids 0,5,4", "auto", 4, r"no GPU 4, 5 on this machine; those that torch can use: 0 to 3"),
    ("--gpu-ids 0", "auto", 0, "can use: none"),
    ("--gpu-ids 1,1", "auto", 4, "one GPU twice"),
    ("--gpus 2", "cpu", 4, "--gpus with device=cpu: write --ranks"),
    ("--gpu-ids 0", "cpu", 4, "--gpu-ids with device=cpu"),
    ("--gpus 2 --ranks 2", "auto", 4, "--ranks and --gpus all say how many"),
    ("--nodes 2", "cpu", 0, "--nodes 2 needs a place .* --rendezvous HOST:PORT"),
    ("--rendezvous a:1", "cpu", 0, "say how many with --nodes"),
    ("--nodes 2 --rendezvous a", "cpu", 0, "expected HOST:PORT"),
    ("--nodes 2 --rendezvous a:99999", "cpu", 0, "expected HOST:PORT"),
]


@pytest.mark.parametrize(("words", "device", "count", "want"), THERE)
def test_what_is_started(gpus: Callable[[int], None], words: str, device: str, count: int, want: Plan | None) -> None:
    gpus(count)
    assert plan(words, device) == want


@pytest.mark.parametrize(("words", "device", "count", "why"), NOT)
def test_what_cannot_be_is_refused(gpus: Callable[[int], None], words: str, device: str, count: int, why: str) -> None:
    gpus(count)
    with pytest.raises(UserError, match=why):
        plan(words, device)


def test_ids_count_among_the_visible_ones(gpus: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7, 5,GPU-0a")
    found = plan("--gpu-ids 0,2")
    assert found is not None and found.visible == "7,GPU-0a"


@pytest.mark.parametrize("words", ["--ranks 2", "--gpus 2", "--nodes 2 --rendezvous a:1", "--restarts 1"])
def test_flags_under_a_launcher_that_runs_are_refused(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(UserError):
        plan(words)  # rank 1 of 1
    for name, value in {"WORLD_SIZE": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(UserError, match="torchrun has started this process as rank 1 of 2 already"):
        plan(words)
    assert plan("") is None
    monkeypatch.setenv("DMF_LAUNCHER", "17")  # they are our own launcher's
    assert plan(words) is None


def test_ranks_share_the_cores_unless_somebody_has_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(13)))
    assert _for_ranks(Plan("mine", 4), None)["OMP_NUM_THREADS"] == "3"
    assert _for_ranks(Plan("mine", 20), None)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert "OMP_NUM_THREADS" not in _for_ranks(Plan("mine", 4), None)
    assert _for_ranks(Plan("mine", 4), None)["TORCH_CPP_LOG_LEVEL"] == "ERROR"  # no frames of C++ beside our sentence
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "INFO")
    assert "TORCH_CPP_LOG_LEVEL" not in _for_ranks(Plan("mine", 4), None)


# the meeting place


def test_addresses() -> None:
    assert split_address("node01:29400") == ("node01", 29400)
    assert split_address("[fe80::1]:5") == ("fe80::1", 5)


def test_who_comes_first_listens_and_the_next_goes_there(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    first = reach(f"127.0.0.1:{port}")
    assert first.here and first.own_address == "127.0.0.1" and first.interface is not None
    assert _for_ranks(Plan("mine"), first)["GLOO_SOCKET_IFNAME"] == first.interface
    with socket.create_server(("127.0.0.1", port)):
        assert not reach(f"127.0.0.1:{port}").here
    assert capsys.readouterr().err == ""


def test_it_waits_for_the_machine_that_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmf.runner.launching.endpoint._is_free", lambda *given: False)  # another machine's
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=r"no answer in 0 s \(.*refused\); start the same command on 127.0.0.1 too"):
        reach(f"127.0.0.1:{port}", patience_s=0.1)
    servers: list[socket.socket] = []
    later = threading.Timer(0.3, lambda: servers.append(socket.create_server(("127.0.0.1", port))))
    later.start()
    assert not reach(f"127.0.0.1:{port}", patience_s=10).here
    later.join()
    servers[0].close()


# what a person sees


def test_mistakes_are_messages(tiny: Path, dmf_command: Callable[..., tuple[int, str, str]]) -> None:
    for words, why in {
        "--ranks 5": "Take 4 of them",
        "--nodes 2": "--rendezvous HOST:PORT",
        "--gpus 2": "--gpus with device=cpu",
    }.items():
        code, _, err = dmf_command("train", tiny, *words.split())
        assert code == 2 and why in err and err.count("\n") == 1, err
    assert not (tiny.parent / "runs").exists()


@pytest.mark.parametrize(
    "words", ["run x --fre", "train x --restart-time 5", "resume x --ext 9", "data prepare x --out y --fre"]
)
def test_flags_are_written_out(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is done but once is taken out of a command by its name: a shorter one would be done at each restart."""
    with pytest.raises(SystemExit) as refused:
        parse(words.split())
    assert refused.value.code == 2 and "--" in capsys.readouterr().err


def test_ranks_that_are_started_again_do_not_start_anew_nor_take_a_folder(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Collection[str]] = {}
    monkeypatch.setattr(
        "dmf.runner.commands.run.launch", lambda plan, argv, **options: asked.update(options, argv=argv)
    )
    args = parse(["run", str(tiny), "--ranks", "2", "--restarts", "3", "--fresh", "--restart"])
    args.execute(args)
    assert {"--fresh", "--restart"} <= {*asked["once"]} & {*asked["argv"]}


def test_a_refused_run_leaves_no_folder(tiny: Path, dmf_command: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = dmf_command("train", tiny, "sampler.guidance=2", "train.label_dropout=0")
    assert code == 2, err
    code, _, err = dmf_command("train", tiny, "hooks=[{name: mlflow, uri: 'bogus://x'}]")
    assert code == 2, err
    assert not list((tiny.parent / "runs").glob("*")), "nothing was trained, and nothing is there"
    assert dmf_command("train", tiny, "train.steps=2")[0] == 0
    kept = sorted(path.name for path in (tiny.parent / "runs/tiny").iterdir())
    code, _, err = dmf_command("train", tiny, "train.lr=7")
    assert code == 2 and sorted(path.name for path in (tiny.parent / "runs/tiny").iterdir()) == kept


# what ends a run


@pytest.mark.parametrize(
    ("ended", "code", "words"),
    [
        ([(0, 10, 1), (1, 40, -9)], 1, "a rank ended with exit code 1"),  # it hung, and was killed in the end
        ([(0, 10, 1), (1, 10, -9)], 1, "a rank was killed by signal 9"),
        ([(0, 11, -15), (1, 10, 2)], 2, "a rank ended with exit code 2"),
        ([(0, 12, 1), (1, 10, 143)], 143, "a rank ended with exit code 143"),
    ],
)
def test_the_failure_that_explains_the_others(ended: list[tuple[int, int, int]], code: int, words: str) -> None:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

    from dmf.runner.launching.agent import exit_code, told

    failures = {rank: ProcessFailure(rank, 0, exitcode, "/nowhere") for rank, _, exitcode in ended}
    for rank, when_s, _ in ended:
        failures[rank].timestamp = when_s
    assert (exit_code(failures), told(failures)) == (code, words)
