"""Checkpoints that are written while training goes on."""

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from checkpoints_kit import saver, weights
from conftest import FULL
from fork_kit import Processes, Ranks
from process_kit import lines
from safetensors.torch import load_file

from dmf.runner import checkpoints
from dmf.runner.checkpoints import saver as module
from dmf.runner.checkpoints.staging import Staging
from dmf.runner.cli import main
from dmf.runner.trouble import CannotWrite

Command = Callable[..., tuple[int, str, str]]
KILLS, STEPS = (5, 100) if FULL else (1, 25)


@pytest.fixture
def held_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The disk is slow: no manifest is written before the event is set."""
    free, seal = threading.Event(), module.seal

    def slow(path: Path, digests: dict[str, str]) -> None:
        assert free.wait(30)
        seal(path, digests)

    monkeypatch.setattr(module, "seal", slow)
    yield free
    free.set()


def test_training_goes_on_while_the_weights_of_its_step_are_written(tmp_path: Path, held_back: threading.Event) -> None:
    saved: list[int] = []
    groups = weights(1.0)
    with saver(tmp_path, lambda step, path: saved.append(step), asynchronous=True) as writes:
        writes.save(1, groups, {})
        groups["model"]["w"].zero_()
        writes.poll()
        assert saved == [] and checkpoints.steps(tmp_path) == []
        held_back.set()
    assert saved == [1]
    assert torch.equal(checkpoints.load(tmp_path / "step-00000001").tensors["model"]["w"], torch.ones(4, 4))


def test_a_second_one_waits_for_the_first_and_says_so_once(
    tmp_path: Path, held_back: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    threading.Timer(0.2, held_back.set).start()
    with saver(tmp_path, asynchronous=True, keep=9) as writes:
        for step in (1, 2):
            writes.save(step, weights(step), {})
        held_back.clear()
        threading.Timer(0.2, held_back.set).start()
        writes.save(3, weights(3), {})
    assert checkpoints.steps(tmp_path) == [1, 2, 3]
    assert caplog.text.count("training waits for the disk") == 1


def test_the_hosts_copy_is_one_and_its_memory_is_used_again() -> None:
    staging, groups = Staging(), weights(1.0)
    first = staging.take(groups, None)["model"]["w"]
    groups["model"]["w"].fill_(2)
    assert float(first[0, 0]) == 1
    again = staging.take(groups, None)["model"]["w"]
    assert again.data_ptr() == first.data_ptr() and float(again[0, 0]) == 2
    assert again.data_ptr() != groups["model"]["w"].data_ptr()


@pytest.mark.parametrize("asked", ["poll", "finish", "save", "leave"])
def test_a_write_that_failed_ends_the_run_with_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    saver(tmp_path).save(1, weights(1), {})
    monkeypatch.setattr(module, "seal", full)
    with pytest.raises(CannotWrite, match="No space"), saver(tmp_path, asynchronous=True) as writes:
        writes.save(2, weights(2), {})
        assert writes._writing is not None
        writes._writing.join()
        if asked == "save":
            writes.save(3, weights(3), {})
        elif asked != "leave":
            getattr(writes, asked)()
    assert checkpoints.steps(tmp_path) == [1]


def test_an_end_by_another_error_waits_for_the_write(tmp_path: Path, held_back: threading.Event) -> None:
    with pytest.raises(KeyError), saver(tmp_path, asynchronous=True) as writes:
        writes.save(1, weights(1), {})
        threading.Timer(0.2, held_back.set).start()
        raise KeyError
    assert checkpoints.steps(tmp_path) == [1]


def test_the_best_is_judged_once_it_is_whole(tmp_path: Path, held_back: threading.Event) -> None:
    with saver(tmp_path, asynchronous=True, keep=1, best="loss") as writes:
        for step, loss in ((1, 2.0), (2, 3.0)):
            held_back.clear()
            writes.save(step, weights(step), {})
            writes.judge(step, {"loss": loss}, {"loss": "lower"})
            assert checkpoints.best_step(tmp_path) == (None if step == 1 else 1)
            held_back.set()
            writes.finish()
    assert checkpoints.best_step(tmp_path) == 1 and checkpoints.steps(tmp_path) == [1, 2]


def final(run: str) -> dict[str, torch.Tensor]:
    held = load_file(f"runs/{run}/checkpoints/step-00000012/model.safetensors")
    return held | {f"ema.{k}": v for k, v in load_file(f"runs/{run}/checkpoints/step-00000012/ema.safetensors").items()}


def test_a_training_is_the_same_bit_for_bit(tiny: Path, dmf_command: Command) -> None:
    assert dmf_command("train", tiny, "name=waited", "checkpoint.every=5")[0] == 0
    assert dmf_command("train", tiny, "name=aside", "checkpoint={every: 1, asynchronous: true}")[0] == 0
    one, two = final("waited"), final("aside")
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_killed_while_it_writes_it_goes_on_bit_for_bit(tiny: Path, dmf_command: Command) -> None:
    words = [f"train.steps={STEPS}", "log.every=1"]
    assert dmf_command("train", tiny, "name=straight", f"checkpoint.every={STEPS}", *words)[0] == 0
    words += ["name=killed", "checkpoint={every: 1, asynchronous: true}"]
    history, moment = Path("runs/killed/history.jsonl"), random.Random(0)
    for _ in range(KILLS):
        ranks, before, until = Ranks(["train", tiny, *words], 1), lines(history), time.monotonic() + 120
        while lines(history) == before and ranks.running() and time.monotonic() < until:
            time.sleep(0.002)
        time.sleep(moment.uniform(0, 0.1))
        assert ranks.kill(), ranks.said()
    assert dmf_command("train", tiny, *words)[0] == 0
    last = f"checkpoints/step-{STEPS:08d}/model.safetensors"
    one, two = (load_file(f"runs/{run}/{last}") for run in ("straight", "killed"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def stopped_while_it_is_written(recipe: str) -> None:
    """A rank of a training whose first checkpoint takes three seconds, and which is asked to stop meanwhile."""
    whole = module.seal

    def slowly(path: Path, digests: Mapping[str, str]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(3)
        whole(path, digests)

    module.seal = slowly
    code = main(["train", recipe, "checkpoint={every: 2, asynchronous: true}", "train.steps=2000", "log.every=1"])
    there = list(Path("runs/tiny/checkpoints").glob("step-*"))
    sys.exit(code if there else 99)


def test_no_rank_leaves_before_the_checkpoint_is_there(tiny: Path) -> None:
    """The launcher would take it for one that failed, and give rank 0 half a minute."""
    ranks = Processes(2, stopped_while_it_is_written, str(tiny))
    assert ranks.codes() == [143, 143]
