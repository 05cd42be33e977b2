"""Scores while training goes on: the training is the same with and without them, and each comes once."""

import json
import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import FULL
from mlflow_kit import Look
from process_kit import kill_tree, lines, start, wait_for
from safetensors.torch import load_file

from dmf.files.cache import cache_folder
from dmf.registry import HookCaller, hookimpl, read
from dmf.registry.hooks import RunInfo
from dmf.runner.evaluation.during import During, is_due
from dmf.runner.training import pace

Command = Callable[..., tuple[int, str, str]]
METRICS = "[{name: frechet, features: digits}, {name: kernel, features: digits, subsets: 5, subset_size: 50}]"
EVERY = f"evaluate={{metrics: {METRICS}, during: {{every: 70, images: 90}}}}"
KILLS, KILLED_STEPS = (3, 60) if FULL else (1, 30)
STEPS = [3, 6, 9, 12]  # of 24 images: the first that have seen 70, 140, 210, 280


def found(run: str) -> list[dict[str, Any]]:
    path = Path(f"runs/{run}/evaluations.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def weights(run: str, step: int = 12) -> dict[str, dict[str, bytes]]:
    folder = Path(f"runs/{run}/checkpoints/step-{step:08d}")
    return {
        name: {key: value.numpy().tobytes() for key, value in load_file(folder / f"{name}.safetensors").items()}
        for name in ("model", "ema", "optimizer")
    }


def values(run: str) -> list[tuple[int, dict[str, float]]]:
    return [(line["step"], {name: one["value"] for name, one in line["results"].items()}) for line in found(run)]


@pytest.mark.parametrize(
    ("every", "batch", "due"),
    [
        (0, 24, []),
        (1, 24, [1, 2, 3, 4, 5, 6]),
        (24, 24, [1, 2, 3, 4, 5, 6]),
        (25, 24, [2, 3, 4, 5, 6]),
        (70, 24, [3, 6]),
    ],
)
def test_it_comes_after_the_first_step_that_has_seen_enough(every: int, batch: int, due: list[int]) -> None:
    recipe = read("digits_dit", [f"train.batch_size={batch}", f"evaluate.during.every={every}"])
    assert [step for step in range(7) if is_due(recipe, step)] == due


@pytest.mark.parametrize("words", [[], ["train.ema=[]", "backbone.dropout=0.3"]])
def test_training_is_bit_for_bit_the_same_with_and_without(tiny: Path, dmf_command: Command, words: list[str]) -> None:
    assert dmf_command("train", tiny, "name=without", *words)[0] == 0
    code, out, err = dmf_command("train", tiny, "name=with", EVERY, *words)
    assert code == 0, out + err
    names = ("model", "optimizer") if words else ("model", "ema", "optimizer")
    for name in names:
        files = [f"runs/{run}/checkpoints/step-00000012/{name}.safetensors" for run in ("with", "without")]
        assert Path(files[0]).read_bytes() == Path(files[1]).read_bytes()
    assert [line["step"] for line in found("with")] == STEPS
    assert not Path("runs/without/evaluations.jsonl").exists()


def test_a_line_says_what_was_scored(tiny: Path, dmf_command: Command) -> None:
    dmf_command("train", tiny, EVERY)
    first = found("tiny")[0]
    assert (first["step"], first["images_seen"]) == (3, 72) and abs(first["time"] - time.time()) < 600
    assert set(first["results"]) == {"frechet_digits_n90", "kernel_digits_n90", "kernel_digits_sd_n90"}
    protocol = first["results"]["frechet_digits_n90"]["protocol"]
    assert (protocol["images"], protocol["weights"], protocol["trained_steps"]) == ("90", "ema", "3")
    assert "held_out" not in first["results"]["frechet_digits_n90"]
    dmf_command("train", tiny, EVERY, "name=raw", "train.ema=[]")
    assert found("raw")[0]["results"]["frechet_digits_n90"]["protocol"]["weights"] == "raw"


def test_the_last_value_is_that_of_an_evaluation_afterwards(tiny: Path, dmf_command: Command) -> None:
    dmf_command("train", tiny, EVERY)
    dmf_command("evaluate", "tiny", "--images", 90, "--metrics", METRICS, "--json", "after.json")
    after = json.loads(Path("after.json").read_text())
    after = after.get("results", after)
    got = {name.removesuffix("_n90"): value for name, value in values("tiny")[-1][1].items()}
    assert got["frechet_digits"] == pytest.approx(after["frechet_digits"]["value"], rel=1e-9)
    assert got["kernel_digits"] == pytest.approx(after["kernel_digits"]["value"], rel=1e-9)


class Stopper:
    """Asks for a stop in the middle of the evaluation of a step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
        whole = During.__call__

        def stopped(self: During, network: Any, weights: str, at: int, judge: Any) -> None:
            if at == step:
                os.kill(os.getpid(), signal.SIGINT)
            whole(self, network, weights, at, judge)

        monkeypatch.setattr(During, "__call__", stopped)


@pytest.mark.parametrize("step", [3, 6, 12])
def test_a_stop_in_it_writes_a_checkpoint_and_the_scores_come_after(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    dmf_command("run", tiny, EVERY, "name=straight")
    with monkeypatch.context() as patch:
        Stopper(patch, step)
        code, _, err = dmf_command("run", tiny, EVERY)
    assert code == 130 and "Traceback" not in err
    assert Path(f"runs/tiny/checkpoints/step-{step:08d}").is_dir()
    assert [line["step"] for line in found("tiny")] == [s for s in STEPS if s < step]
    assert dmf_command("run", tiny, EVERY)[0] == 0
    assert values("tiny") == values("straight") and weights("tiny") == weights("straight")
    assert "is done" in dmf_command("run", tiny, EVERY)[1]


def test_lines_after_the_last_checkpoint_are_cut_and_come_again(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    dmf_command("run", tiny, EVERY, "name=straight")

    def dies(self: Any, step: int) -> None:
        if step == 9:
            raise RuntimeError("a crash")

    with monkeypatch.context() as patch:
        patch.setattr(During, "due", lambda self, step: is_due(self.recipe, step) and not dies(self, step))
        with pytest.raises(RuntimeError, match="a crash"):
            dmf_command("run", tiny, EVERY, "checkpoint.every=5")
    assert [line["step"] for line in found("tiny")] == [3, 6]  # the checkpoint is of step 5
    assert dmf_command("run", tiny, EVERY, "checkpoint.every=5")[0] == 0
    assert values("tiny") == values("straight")
    assert [line["step"] for line in found("tiny")] == STEPS


class Watcher:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.scores: list[tuple[int, list[str]]] = []
        self.asked: list[tuple[int, Mapping[str, float]]] = []

    @hookimpl
    def dmf_metrics(self, run: RunInfo, step: int, results: Mapping[str, Any]) -> None:
        assert (run.task, run.parent) == ("train", None)
        self.scores.append((step, sorted(results)))

    @hookimpl
    def dmf_should_stop(self, step: int, values: Mapping[str, float]) -> bool:
        self.asked.append((step, dict(values)))
        return values.get("eval/step", 0) >= 6


def test_hooks_hear_of_it_and_may_stop_by_its_values(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher()
    whole = HookCaller.__init__
    monkeypatch.setattr(HookCaller, "__init__", lambda self, hooks, report, names=(): whole(self, [watcher], report))
    assert dmf_command("train", tiny, EVERY)[0] == 0
    assert [step for step, _ in watcher.scores] == [3, 6]
    assert watcher.scores[0][1] == ["frechet_digits_n90", "kernel_digits_n90", "kernel_digits_sd_n90"]
    asked = dict(watcher.asked)
    assert list(asked) == [2, 4, 6, 8]  # logged every 2 steps; it stops at the first point after the values of step 6
    assert "eval/step" not in asked[2] and asked[4]["eval/step"] == asked[6]["eval/step"] == 3 and asked[4]["loss"]
    assert asked[8]["eval/frechet_digits_n90"] == dict(values("tiny"))[6]["frechet_digits_n90"]


def test_its_time_is_in_no_figure_of_the_training(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock on which each evaluation takes an hour."""
    whole, hours = During.__call__, []

    def slow(self: During, *given: Any) -> None:
        hours.append(3600.0)
        whole(self, *given)

    monkeypatch.setattr(During, "__call__", slow)
    monkeypatch.setattr(pace, "time", SimpleNamespace(perf_counter=lambda: time.perf_counter() + sum(hours)))
    dmf_command("train", tiny, EVERY, "log.every=1")
    history = [json.loads(line)["values"] for line in Path("runs/tiny/history.jsonl").read_text().splitlines()]
    assert len(hours) == len(STEPS) and max(point["step_ms"] for point in history) < 1000 * 600


def test_a_metric_that_fails_costs_no_training(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dmf.plugins.metrics.frechet import Frechet

    def refused(self: Frechet) -> dict[str, float]:
        raise ValueError("these images are too much alike")

    monkeypatch.setattr(Frechet, "compute", refused)
    code, out, err = dmf_command("train", tiny, EVERY)
    assert code == 0 and "step 3: not all of the evaluation is there: frechet: these images" in err, out + err
    assert [line["step"] for line in found("tiny")] == STEPS
    assert found("tiny")[0]["results"].keys() == {"kernel_digits_n90", "kernel_digits_sd_n90"}
    assert "too much alike" in found("tiny")[0]["failed"]


@pytest.mark.parametrize(
    ("evaluate", "said"),
    [
        ("{during: {every: 70}}", "evaluate.during: there is nothing to score"),
        (f"{{metrics: {METRICS}, during: {{every: -1}}}}", "evaluate.during.every"),
        (f"{{metrics: {METRICS}, during: {{every: 70, images: 0}}}}", "evaluate.during.images"),
        ("{during: {every: 70, images: 3, metrics: [{name: kernel, features: digits}]}}", "evaluate.during: metrics"),
        ("{during: {every: 70, metrics: [{name: frechett}]}}", "did you mean 'frechet'"),
    ],
)
def test_what_cannot_be_scored_is_told_before_the_training(
    tiny: Path, dmf_command: Command, evaluate: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dmf.plugins.metrics.kernel import Kernel

    def check(self: Kernel, spec: object, images: int) -> None:
        if images < 10:
            raise ValueError(f"more images, please; got {images}")

    monkeypatch.setattr(Kernel, "check", check)
    code, _, err = dmf_command("train", tiny, f"evaluate={evaluate}")
    assert code == 2 and said in err and "Traceback" not in err, err
    assert not list(Path("runs").glob("*/checkpoints/step*"))


def test_its_settings_do_not_make_a_finished_run_score_again(tiny: Path, dmf_command: Command) -> None:
    words = [f"evaluate.metrics={METRICS}", "evaluate.images=90"]
    dmf_command("run", tiny, *words)
    assert "is done" in dmf_command("run", tiny, *words, "evaluate.during.every=1000")[1]


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2] if FULL else [1])
def test_killed_at_random_moments_each_point_comes_once(tiny: Path, dmf_command: Command, ranks: int) -> None:
    """Also in MLflow, on a real store."""
    words = ["run", tiny, EVERY.replace("70", "140"), f"train.steps={KILLED_STEPS}", "checkpoint.every=7"]
    words += ["--ranks", ranks] if ranks > 1 else []
    tracked = [*words, "hooks=[{name: mlflow, system_metrics: false}]"]
    moment, run = random.Random(ranks), Path("runs/tiny")
    for _ in range(KILLS):
        process, before = start(*tracked), lines(run / "evaluations.jsonl")
        wait_for(lambda before=before: lines(run / "evaluations.jsonl") > before, process)
        time.sleep(moment.uniform(0, 0.5))
        assert process.poll() is None, "it finished before it could be killed: take more steps"
        kill_tree(process.pid)
        process.communicate()
    for again in (tracked, [*words, "name=straight"]):
        code, out, err = dmf_command(*again)
        assert code == 0, out + err
    assert values("tiny") == values("straight")
    assert weights("tiny", KILLED_STEPS) == weights("straight", KILLED_STEPS)
    look = Look(f"sqlite:///{Path('mlflow.db').resolve()}")
    run_id = json.loads((run / "mlflow.json").read_text())["run_id"]
    expected = [(step, found_["frechet_digits_n90"]) for step, found_ in values("straight")]
    assert look.points(run_id, "eval/frechet_digits_n90") == expected


@pytest.mark.slow
def test_several_ranks_stop_together_in_the_middle_of_it(tiny: Path) -> None:
    evaluate = f"evaluate={{metrics: {METRICS}, batch_size: 8, during: {{every: 70, images: 20000}}}}"
    process = start("train", tiny, evaluate, "--ranks", 2)
    # once the reference is read it is kept, and then minutes of samples are to come
    wait_for(lambda: any(cache_folder("reference").rglob("*")), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 130 and "Traceback" not in err, out + err
    assert Path("runs/tiny/checkpoints/step-00000003").is_dir() and not Path("runs/tiny/evaluations.jsonl").exists()
