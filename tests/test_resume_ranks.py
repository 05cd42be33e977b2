"""One rank, then two, then one again train as one; it is enough that one rank is asked to stop."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from fork_kit import on_ranks
from process_kit import lines
from safetensors.torch import load_file
from training_kit import stop_at

from dmf.runner.cli import main
from dmf.runner.exactness import bit_for_bit, to_rounding
from dmf.runner.training.stops import Stops
from dmf.runner.world import World

Command = Callable[..., tuple[int, str, str]]
STEPS = 60
WORDS = [f"train.steps={STEPS}", "log.every=1", "checkpoint.every=1000", "train.decay=cosine", "train.warmup=10"]


@pytest.fixture
def runs(tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs: straight on one rank; and moved, from one to two and back."""
    assert dmf_command("train", tiny, *WORDS, "name=straight")[0] == 0
    with monkeypatch.context() as patch:
        stop_at(patch, 20)
        assert dmf_command("train", tiny, *WORDS, "name=moved")[0] == 143
    on_ranks(2, stopped_on_one, tiny)
    assert 35 <= lines(tiny.parent / "runs/moved/history.jsonl") < STEPS
    assert dmf_command("train", tiny, *WORDS, "name=moved")[0] == 0
    return tiny.parent / "runs"


def stopped_on_one(world: World, recipe: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if not world.first:  # not the one that writes
            stop_at(patch, 35)
        assert main(["train", str(recipe), *WORDS, "name=moved"]) == 143


@pytest.mark.slow
def test_one_rank_then_two_then_one_train_as_one(runs: Path) -> None:
    straight, moved = (
        [json.loads(x) for x in (runs / n / "history.jsonl").read_text().splitlines()] for n in ("straight", "moved")
    )
    assert [x["draws"] for x in straight] == [x["draws"] for x in moved] and len(straight) == STEPS
    assert [x["values"]["learning_rate"] for x in straight] == [x["values"]["learning_rate"] for x in moved]
    losses = [[x["values"]["loss"] for x in run] for run in (straight, moved)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5) and losses[1] != losses[0]  # they were not one rank's
    for name in ("model", "ema"):
        a, b = (load_file(runs / n / f"checkpoints/step-{STEPS:08d}/{name}.safetensors") for n in ("straight", "moved"))
        apart, whole = (torch.cat([v.reshape(-1) for v in x]).double() for x in ([a[k] - b[k] for k in a], a.values()))
        assert 0 < float(apart.norm()) < 1e-4 * float(whole.norm())
    rounding = to_rounding(runs / "straight", runs / "moved", STEPS)
    assert len(rounding) == 4 and all(one.good for one in rounding)
    exact = {one.what for one in bit_for_bit(runs / "straight", runs / "moved", STEPS) if one.good}
    assert exact == {"counters, settings", "images, noise, times"}


class FakeWorld:
    """Two ranks on GPUs, of which the other needs a given time a step."""

    size, first, device = 2, True, torch.device("cuda")

    def group_on_host(self) -> object:
        return object()


def test_on_gpus_ranks_ask_each_other_about_twice_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slowest rank's step decides after how many steps, so that all ask after the same one."""
    now_s, asked = [0.0], list[float]()

    def slowest(told: torch.Tensor, *args: object, **more: object) -> None:
        asked.append(now_s[0])
        told[1] = max(int(told[1]), 50_000)  # the other rank's, microseconds

    monkeypatch.setattr("torch.distributed.all_reduce", slowest)
    monkeypatch.setattr("time.monotonic", lambda: now_s[0])
    signals = type("Signals", (), {"requested": 0})()
    stops = Stops(FakeWorld(), signals)  # type: ignore[arg-type]
    for _ in range(100):
        stops.asked()
        now_s[0] += 0.05
    assert 10 <= len(asked) <= 13
    signals.requested = 15
    waited = next(k for k in range(1, 30) if stops.asked())
    assert waited <= 10


def test_on_gpus_the_first_steps_that_only_fill_the_queue_do_not_say_how_long_a_step_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The host hands over ten steps of 0.1 s in 5 ms each; from then on it waits for the device."""
    now_s, asked = [0.0], list[float]()
    monkeypatch.setattr("torch.distributed.all_reduce", lambda *args, **more: asked.append(now_s[0]))
    monkeypatch.setattr("time.monotonic", lambda: now_s[0])
    stops = Stops(FakeWorld(), type("Signals", (), {"requested": 0})())  # type: ignore[arg-type]
    for step in range(100):
        stops.asked()
        now_s[0] += 0.005 if step < 10 else 0.1
    waits = [after - before for before, after in pairwise(asked)]
    assert max(waits, default=10.0) <= 1.0 and waits[-1] == pytest.approx(0.5, abs=0.11)
