"""An evaluation of a trained run in its trackers: the run's own MLflow run, under names that say what was changed."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow_kit import Look

from dmf.plugins.hooks import mlflow_queue, mlflow_run
from dmf.registry import HookCaller, hookimpl, read
from dmf.registry.hooks import RunInfo
from dmf.runner.evaluation import tracking
from dmf.runner.evaluation.settings import settings
from dmf.runner.folder import RunFolder

Command = Callable[..., tuple[int, str, str]]
METRICS = "[{name: frechet, features: digits}, {name: kernel, features: digits, subsets: 5, subset_size: 50}]"
EVALUATE = f"evaluate={{images: 90, metrics: {METRICS}, held_out: false}}"
HOOK = "hooks=[{name: mlflow, system_metrics: false, patience_s: 1}]"


@pytest.fixture
def look(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(mlflow_queue, "GATHER_S", 0.02)
    monkeypatch.setattr(mlflow_queue, "BACKOFF_AT_END_S", 0.05)
    return Look(f"sqlite:///{workdir}/mlflow.db")


def evaluated(look: Look) -> dict[str, list[tuple[int, float]]]:
    (run,) = look.runs()
    return {key: look.points(run.info.run_id, key) for key in run.data.metrics if key.startswith("eval/frechet")}


def value(command: Command, *words: object) -> float:
    code, out, err = command("evaluate", "tiny", *words, "--json", "one.json")
    assert code == 0, out + err
    report = json.loads(Path("one.json").read_text())
    return float(report.get("results", report)["frechet_digits"]["value"])


def told_once(run: Run) -> tuple[Any, ...]:
    """What an evaluation leaves alone."""
    return run.info.status, run.info.start_time, run.info.end_time, run.data.params, run.info.run_name


def test_values_go_to_the_runs_own_run_under_names_of_their_settings(
    look: Look, tiny: Path, dmf_command: Command
) -> None:
    assert dmf_command("run", tiny, EVALUATE, HOOK)[0] == 0
    (before,) = look.runs()
    first = evaluated(look)["eval/frechet_digits"]
    same = value(dmf_command)
    assert first == [(12, same)]
    found = {
        "eval/frechet_digits steps:2": value(dmf_command, "--steps", 2),
        "eval/frechet_digits ddim steps:2": value(dmf_command, "--sampler", "ddim", "--steps", 2),
        "eval/frechet_digits_n95 guidance:1": value(dmf_command, "--images", 95, "--guidance", 1),
        "eval/frechet_digits raw seed:7": value(dmf_command, "--weights", "raw", "--seed", 7),
    }
    assert value(dmf_command, "--steps", 2, "--no-track") == found["eval/frechet_digits steps:2"]
    assert value(dmf_command, "--steps", 2) == found["eval/frechet_digits steps:2"]  # again: the point is there
    assert evaluated(look) == {"eval/frechet_digits": first, **{key: [(12, one)] for key, one in found.items()}}
    (after,) = look.runs()
    assert told_once(after) == told_once(before)
    assert not [tag for tag in after.data.tags if tag.startswith("dmf.changed")]
    files = look.files(after.info.run_id)
    assert [name for name in files if name.endswith(".json") and name.startswith("evaluation/")]
    assert ("grid", 12) in look.images(after.info.run_id)


def test_an_option_of_a_metric_is_behind_its_own_values_alone(look: Look, tiny: Path, dmf_command: Command) -> None:
    assert dmf_command("train", tiny, EVALUATE, HOOK)[0] == 0
    near = "{name: nearest_neighbour, images: %d%s}"
    more = [near % (9, ""), near % (8, ", features: digits"), "{name: bits_per_dim, images: 4, steps: 2}"]
    for metrics in ("[{name: frechet, features: digits}]", f"[{{name: frechet, features: digits}}, {', '.join(more)}]"):
        value(dmf_command, "--steps", 2, "--metrics", metrics)
    (run,) = look.runs()
    found = {key.removeprefix("eval/") for key in run.data.metrics if key.startswith("eval/")}
    pixels = "steps:2 nearest_neighbour.images:9"
    digits = "steps:2 nearest_neighbour.features:digits nearest_neighbour.images:8"
    ends = ("median", "least", "copies")
    expected = {"frechet_digits steps:2", *(f"nearest_pixels_{end} {pixels}" for end in ends)}
    expected |= {f"nearest_digits_{end} {digits}" for end in ends}
    assert {name for name in found if not name.startswith("bits_per_dim")} == expected
    assert "bits_per_dim steps:2 bits_per_dim.images:4 bits_per_dim.steps:2" in found
    assert len(look.points(run.info.run_id, "eval/frechet_digits steps:2")) == 1
    pictures = {name for name, _ in look.images(run.info.run_id) if name.startswith("nearest")}
    assert pictures == {f"nearest_pixels {pixels}".replace(":", "_"), f"nearest_digits {digits}".replace(":", "_")}
    assert ("evaluation_grid steps_2", 12) in look.images(run.info.run_id)


def test_a_store_that_is_down_gets_them_later(look: Look, tiny: Path, dmf_command: Command, workdir: Path) -> None:
    assert dmf_command("run", tiny, EVALUATE, HOOK)[0] == 0
    (workdir / "mlflow.db").rename(workdir / "away")
    other = "hooks=[{name: mlflow, uri: 'http://127.0.0.1:9', system_metrics: false, patience_s: 0.2}]"
    two = value(dmf_command, "--steps", 2, other)
    assert (workdir / "runs/tiny/mlflow-unsent").is_dir()
    (workdir / "away").rename(workdir / "mlflow.db")
    three = value(dmf_command, "--sampler", "ddim")
    found = evaluated(look)
    assert found["eval/frechet_digits steps:2"] == [(12, two)] and found["eval/frechet_digits ddim"] == [(12, three)]
    assert not (workdir / "runs/tiny/mlflow-unsent").exists() and len(look.runs()) == 1


def test_a_run_that_was_never_tracked_gets_a_run_that_is_finished(look: Look, tiny: Path, dmf_command: Command) -> None:
    dmf_command("train", tiny, EVALUATE)
    one = value(dmf_command, HOOK)
    (run,) = look.runs()
    assert run.info.status == "FINISHED" and evaluated(look) == {"eval/frechet_digits": [(12, one)]}
    assert run.data.params["train.steps"] == "12"


def test_the_status_that_a_training_could_not_send_is_not_lost(
    look: Look, tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        whole = mlflow_run.RemoteRun.send

        def send(self: Any, operations: Any) -> None:
            if operations[0].kind in ("status", "points"):
                raise ConnectionError("down")
            whole(self, operations)

        patch.setattr(mlflow_run.RemoteRun, "send", send)
        dmf_command("train", tiny, EVALUATE, HOOK.replace("patience_s: 1", "patience_s: 0.2"))
    assert [run.info.status for run in look.runs()] == ["RUNNING"]
    value(dmf_command)
    (run,) = look.runs()
    assert run.info.status == "FINISHED"
    assert [step for step, _ in look.points(run.info.run_id, "loss")] == [2, 4, 6, 8, 10, 12]


def test_while_another_process_has_the_run_nothing_is_told_and_that_is_said(
    look: Look, tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    dmf_command("train", tiny, EVALUATE, HOOK)
    monkeypatch.setattr(tracking, "PATIENCE_S", 0.1)
    script = "\n".join(
        [
            "import sys",
            "from pathlib import Path",
            "from dmf.runner.folder import RunFolder",
            "folder = RunFolder(Path('runs/tiny'))",
            "folder.hold()",
            "print('held', flush=True)",
            "sys.stdin.read()",
        ]
    )
    holder = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    code, _, err = dmf_command("evaluate", "tiny", "--steps", 2)
    holder.communicate()
    assert code == 0 and "the values are not tracked" in err and "in use by another dmf process" in err
    assert evaluated(look) == {}


class Watcher:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    @hookimpl
    def dmf_run_started(self, run: RunInfo) -> None:
        self.told.append(("started", run.name, run.task, run.parent, run.start_step, run.recipe.sampler.steps))

    @hookimpl
    def dmf_metrics(self, step: int, results: Mapping[str, Any]) -> None:
        self.told.append(("metrics", step, *sorted(results)))

    @hookimpl
    def dmf_run_ended(self, error: BaseException | None) -> None:
        self.told.append(("ended", error))


def test_any_hook_is_told_what_the_run_is(tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    dmf_command("train", tiny, EVALUATE)
    watcher, whole = Watcher(), HookCaller.__init__
    monkeypatch.setattr(HookCaller, "__init__", lambda self, hooks, *more: whole(self, [watcher], more[0]))
    dmf_command("evaluate", "tiny", "--steps", 2)
    assert watcher.told == []  # the recipe has no hooks
    dmf_command("evaluate", "tiny", "--steps", 2, HOOK)
    names = [f"{name} steps:2" for name in ("frechet_digits", "kernel_digits", "kernel_digits_sd")]
    assert watcher.told == [("started", "tiny", "evaluate", None, 12, 3), ("metrics", 12, *names), ("ended", None)]
    watcher.told.clear()
    dmf_command("evaluate", "tiny", HOOK, "--sweep", "steps=2,4")
    started = [one[1:] for one in watcher.told if one[0] == "started"]
    here = RunFolder(Path("runs/tiny")).path
    own = ("tiny", "evaluate", None, 12, 3)
    points = [(f"steps={n}", "evaluate", here, 12, n) for n in (2, 4)]
    assert started == [own, *points, own]


@pytest.mark.parametrize(
    ("metrics", "during", "words", "said"),
    [
        ("", "", (), ""),
        ("weights: raw, ", "", (), " raw"),
        ("weights: raw, ", "", ("--weights", "ema"), ""),
        ("", ", metrics: [{name: frechet, features: digits}, {name: kernel, features: digits}]", (), " kernel"),
    ],
)
def test_a_curve_of_scores_while_training_has_no_other_values(
    look: Look, tiny: Path, dmf_command: Command, metrics: str, during: str, words: tuple[str, ...], said: str
) -> None:
    kept = f"{metrics}during: {{every: 100000, images: 60{during}}}"
    assert dmf_command("train", tiny, EVALUATE.replace("held_out", f"{kept}, held_out"), HOOK)[0] == 0
    one = value(dmf_command, "--images", 60, *words)
    (name,) = evaluated(look)
    assert evaluated(look)[name] == [(12, one)]
    if said == " kernel":
        (run,) = look.runs()
        assert name == "eval/frechet_digits_n60"
        assert "eval/kernel_digits_n60 kernel.subsets:5 kernel.subset_size:50" in run.data.metrics
    else:
        assert name == f"eval/frechet_digits_n60{said}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], []),
        (["evaluate.batch_size=7", "device=cpu", "hooks=[]", "evaluate.held_out=false", "evaluate.images=5"], []),
        (["sampler.name=ddim"], ["ddim"]),
        (["sampler.churn=3"], ["churn:3.0"]),
        (["sampler={name: ddim, steps: 20, eta: 1, guidance: 2.0}"], ["ddim", "eta:1.0"]),
        (["sampler.grid=karras"], ["grid:karras"]),
        (["sampler.guidance={name: interval, of: 3}"], ["guidance:interval"]),
        (["sampler.reference={run: other, step: 5}"], ["away_from:other:5"]),
        (["sampler.reference={run: other, step: best}"], ["away_from:other:best"]),
        (["schedule.shift=3"], ["schedule.shift:3.0"]),
        (["evaluate.metrics=[{name: kernel, features: digits, subsets: 7}]"], []),
    ],
)
def test_words_name_what_values_depend_on_and_nothing_else(words: list[str], said: list[str]) -> None:
    found = settings(read("digits_dit"), read("digits_dit", words))
    assert len(found) == len(said) and all(one.startswith(start) for one, start in zip(found, said, strict=True)), found
