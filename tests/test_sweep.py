"""A run scored with every combination of some settings: in order, each once, with the best found and written."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow_kit import Look
from PIL import Image

from dmf.core import Metric
from dmf.registry import UserError, read
from dmf.runner.evaluation import Evaluation
from dmf.runner.evaluation.better import best, ways
from dmf.runner.evaluation.streams import Generated
from dmf.runner.sweeps import plot as sweep_plot
from dmf.runner.sweeps.points import Point, axes
from dmf.runner.sweeps.report import Swept

Command = Callable[..., tuple[int, str, str]]
METRICS = "[{name: frechet, features: digits}, {name: kernel, features: digits, subsets: 5, subset_size: 50}]"
EVALUATE = f"evaluate={{images: 90, metrics: {METRICS}, held_out: false}}"
SWEEP = ("--sweep", "guidance=1,3", "sampler=ddim,heun", "steps=2,3")


@pytest.fixture
def run(tiny: Path, dmf_command: Command) -> Path:
    code, out, err = dmf_command("train", tiny, EVALUATE)
    assert code == 0, out + err
    return Path("runs/tiny")


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The samplers of the points that are really scored."""
    scored: list[str] = []
    whole = Evaluation.run

    def run(self: Evaluation, *given: Any, **more: Any) -> Any:
        sampler = more["recipe"].sampler
        scored.append(f"{sampler.name} {sampler.steps} {sampler.guidance.options['scale']:g}")
        return whole(self, *given, **more)

    monkeypatch.setattr(Evaluation, "run", run)
    return scored


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("steps=10,20", ["10", "20"]),
        (
            "guidance=1, {name: interval, sigma_max: 5, of: 3},[1,2]",
            ["1", "{name: interval, sigma_max: 5, of: 3}", "[1,2]"],
        ),
        ("sampler.churn=0,10", ["0", "10"]),
        ("weights=ema,raw", ["ema", "raw"]),
    ],
)
def test_values_stand_between_commas(word: str, values: list[str]) -> None:
    assert list(axes([word]).values()) == [values]


@pytest.mark.parametrize(
    "words", [["steps="], ["steps=1,,2"], ["steps=1,1"], ["steps=1", "steps=2"], ["lr=1,2"], ["train.lr=1,2"]]
)
def test_words_that_say_nothing_are_refused(words: list[str]) -> None:
    with pytest.raises(UserError, match="--sweep"):
        axes(words)


def test_all_combinations_are_scored_in_the_order_of_nested_loops(
    run: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = counted(monkeypatch)
    code, out, err = dmf_command("evaluate", "tiny", *SWEEP, "--json", "sweep.json")
    assert code == 0, out + err
    assert scored == [f"{s} {n} {g}" for g in (1, 3) for s in ("ddim", "heun") for n in (2, 3)]
    assert "sweep: 2 x 2 x 2 = 8 points of 90 images" in out and "takes about" in out
    report = json.loads(Path("sweep.json").read_text())
    assert [point["name"] for point in report["points"]][:3] == [
        "guidance=1 ddim steps=2",
        "guidance=1 ddim steps=3",
        "guidance=1 heun steps=2",
    ]
    values = [point["results"]["frechet_digits"]["value"] for point in report["points"]]
    lowest = report["points"][values.index(min(values))]["name"]
    assert report["best"]["frechet_digits"] == lowest and report["better"]["frechet_digits"] == "lower"
    assert "kernel_digits_sd" not in report["best"]
    marked = [line for line in out.splitlines() if " *" in line and "frechet" not in line]
    assert marked and any(f"{min(values):.4g} *" in line for line in marked)
    protocols = {
        json.dumps({k: p["results"]["frechet_digits"]["protocol"][k] for k in ("seed", "images")})
        for p in report["points"]
    }
    assert len(protocols) == 1  # the same seeds everywhere
    (home,) = [path for path in (run / "sweeps").iterdir() if path.name != "points"]
    assert json.loads((home / "sweep.json").read_text()) == report
    width, height = Image.open(home / "plot.png").size
    assert width > 800 and height > 300


def test_a_point_has_the_values_of_an_evaluation_with_its_settings(run: Path, dmf_command: Command) -> None:
    dmf_command("evaluate", "tiny", "--sweep", "steps=2,3", "weights=ema,raw", "--json", "sweep.json")
    swept = {p["name"]: p["results"] for p in json.loads(Path("sweep.json").read_text())["points"]}
    for name, words in {
        "steps=2 weights=ema": ["--steps", 2],
        "steps=3 weights=raw": ["--steps", 3, "--weights", "raw"],
        "steps=2 weights=raw": ["--steps", 2, "--weights", "raw"],
    }.items():
        dmf_command("evaluate", "tiny", *words, "--json", "one.json")
        one = json.loads(Path("one.json").read_text())
        one = one.get("results", one)
        assert swept[name]["frechet_digits"] == one["frechet_digits"]


def test_it_goes_on_where_it_stopped_and_may_grow(
    run: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Evaluation.run
    scored = counted(monkeypatch)
    counting = Evaluation.run

    def stopped(self: Evaluation, *given: Any, **more: Any) -> Any:
        if len(scored) == 3:
            raise KeyboardInterrupt
        return counting(self, *given, **more)

    monkeypatch.setattr(Evaluation, "run", stopped)
    assert dmf_command("evaluate", "tiny", *SWEEP)[0] == 130
    assert len(scored) == 3
    monkeypatch.setattr(Evaluation, "run", counting)
    code, out, _ = dmf_command("evaluate", "tiny", *SWEEP, "--json", "sweep.json")
    assert code == 0 and len(scored) == 8 and "3 are done already" in out
    assert dmf_command("evaluate", "tiny", *SWEEP)[0] == 0 and len(scored) == 8
    dmf_command("evaluate", "tiny", "--sweep", "guidance=1,2,3", "sampler=ddim", "steps=2")
    assert scored[8:] == ["ddim 2 2"]
    dmf_command("evaluate", "tiny", *SWEEP, "--seed", 5)  # other images: none of them is known
    assert len(scored) == 17
    monkeypatch.setattr(Evaluation, "run", whole)
    dmf_command("evaluate", "tiny", *SWEEP, "--images", 91)
    straight = json.loads(Path("sweep.json").read_text())
    for path in (run / "sweeps").iterdir():
        for file in path.rglob("results.json"):
            file.unlink()
    dmf_command("evaluate", "tiny", *SWEEP, "--json", "again.json")
    assert json.loads(Path("again.json").read_text()) == straight


def test_weights_that_were_trained_on_are_scored_anew(
    tiny: Path, run: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["evaluate", "tiny", "--sweep", "steps=2,3"]
    dmf_command(*words)
    dmf_command("train", tiny, EVALUATE, "train.steps=14")
    scored = counted(monkeypatch)
    dmf_command(*words)
    assert len(scored) == 2


def test_points_of_another_reference_or_number_of_seeds_are_other_points(
    run: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--sweep", "steps=2", "--metrics", "[{name: frechet, features: digits}]", "--json", "s.json"]

    def value(*more: object) -> float:
        code, out, err = dmf_command("evaluate", "tiny", *words, *more)
        assert code == 0, out + err
        (point,) = json.loads(Path("s.json").read_text())["points"]
        return float(point["results"]["frechet_digits"]["value"])

    scored = counted(monkeypatch)
    for place, mean in (("r1", 0.0), ("r2", 1.0)):  # of one name, and neither says of which features it is
        Path(place).mkdir()
        np.savez(f"{place}/ref.npz", mu=np.full(64, mean), sigma=np.eye(64))
    first, second = value("--reference", "r1/ref.npz"), value("--reference", "r2/ref.npz")
    assert len(scored) == 2 and first != second
    assert value("--reference", "r1/ref.npz") == first and len(scored) == 2
    Path("r2/ref.npz").replace("r1/ref.npz")  # written over in place: it is the other now, whose point is there
    assert value("--reference", "r1/ref.npz") == second and len(scored) == 2
    own = value()
    test = value("--reference", "{name: digits, split: test}")
    assert len({own, test, first, second}) == 4 and len(scored) == 4
    assert value("--repeats", 2) != own and len(scored) == 6
    assert value() == own and len(scored) == 6


def test_a_point_whose_file_is_damaged_is_scored_anew(
    run: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["evaluate", "tiny", "--sweep", "steps=2"]
    assert dmf_command(*words)[0] == 0
    (kept,) = run.glob("sweeps/points/*/results.json")
    whole = kept.read_bytes()
    for damaged in (b"\0" * len(whole), whole[:-20], b"[]", b"{}", b"\xff"):
        kept.write_bytes(damaged)
        scored = counted(monkeypatch)
        code, out, err = dmf_command(*words)
        assert code == 0 and len(scored) == 1 and "is damaged" in out + err, out + err
        assert json.loads(kept.read_bytes())["results"] == json.loads(whole)["results"]


def test_metrics_of_held_out_images_alone_make_no_sample(
    run: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    monkeypatch.setattr(Generated, "batches", lambda self, *given: made.append(len(self)) or iter(()))
    metrics = "[{name: bits_per_dim, images: 4, steps: 2}]"
    code, out, err = dmf_command("evaluate", "tiny", "--metrics", metrics, "--sweep", "weights=ema,raw")
    assert code == 0 and made == [] and not list(run.glob("sweeps/points/*/grid.png")), out + err


def test_repeats_are_seeds_of_each_point(run: Path, dmf_command: Command) -> None:
    code, out, _ = dmf_command("evaluate", "tiny", "--sweep", "steps=2,3", "--repeats", 2, "--json", "sweep.json")
    assert code == 0 and "2 seeds each" in out and " ± " in out
    for point in json.loads(Path("sweep.json").read_text())["points"]:
        one = point["results"]["frechet_digits"]
        assert len(one["values"]) == 2 and one["value"] == pytest.approx(sum(one["values"]) / 2) and one["sd"] > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sampler=ddim,hoin"], "--sweep: hoin is not possible"),
        (["sampler=ddim,heun", "sampler.churn=0,1"], "--sweep: ddim sampler.churn=0 is not possible"),
        (["steps=3,0"], "--sweep: steps=0 is not possible"),
        (["grid=karras,{name: explicit, times: [0.5]}"], "is not possible"),
        (["away_from=null,{run: nowhere}"], "nowhere"),
        (["away_from=nowhere@400,null"], "nowhere"),
        (["away_from=null,x@y"], "after @ stands the step"),
        (["reference=null"], "cannot be swept"),
        (["steps=" + ",".join(map(str, range(1, 1100)))], "more than 1000"),
        (["lr=1,2"], "cannot be swept"),
    ],
)
def test_a_point_that_cannot_be_is_named_before_the_work(
    run: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    scored = counted(monkeypatch)
    code, _, err = dmf_command("evaluate", "tiny", "--sweep", *words)
    assert code == 2 and said in err and "Traceback" not in err, err
    assert scored == [] and not (run / "sweeps").exists()


def test_the_best_becomes_the_runs_own_setting(run: Path, dmf_command: Command) -> None:
    before = (run / "recipe.yaml").read_text()
    words = ["evaluate", "tiny", "--sweep", "sampler=ddim,heun", "steps=2,5", "--json", "sweep.json"]
    code, out, err = dmf_command(*words, "--write-best", "frechet_digits")
    assert code == 0, out + err
    name = json.loads(Path("sweep.json").read_text())["best"]["frechet_digits"]
    now = read(run / "recipe.yaml")
    assert f"{now.sampler.name} steps={now.sampler.steps}" == name
    assert (run / "recipe.1.yaml").read_text() == before and "recipe.1.yaml" in out
    assert f"sampler.steps: 3 -> {now.sampler.steps}" in out
    calls = now.sampler.steps * {"ddim": 1, "heun": 2}[now.sampler.name] - (now.sampler.name == "heun")
    assert f"{calls} network evaluations" in dmf_command("sample", "tiny", "--count", 4)[1]
    assert "the run's own" in dmf_command(*words, "--write-best", "frechet_digits")[1]
    assert not (run / "recipe.2.yaml").exists()


def test_a_best_that_there_is_not_is_told_after_the_first_point(
    run: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored, words = counted(monkeypatch), ("evaluate", "tiny", "--sweep", "steps=2,3")
    for name in ("fretchet_digits", "kernel_digits_sd"):  # the second time the first point is there
        code, _, err = dmf_command(*words, "--write-best", name)
        assert code == 2 and "; those that have: frechet_digits, kernel_digits\n" in err
        assert ("did you mean 'frechet_digits';" in err) == (name == "fretchet_digits")
    assert len(scored) == 1 and not (run / "recipe.1.yaml").exists()
    assert dmf_command(*words)[0] == 0 and len(scored) == 2  # what was scored is not lost


def test_a_point_that_fails_takes_nothing_from_the_others(
    run: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("evaluate", "tiny", "--sweep", "guidance=1,1e300,2", "--json", "sweep.json")
    code, out, err = dmf_command(*words, "--write-best", "frechet_digits")
    assert code == 2, out + err
    assert "guidance=1e300 has no values: " in err and "not finite" in err
    assert "error: --sweep: 1 of 3 points have no values: guidance=1e300; the others are kept; --write-best" in err
    held = json.loads(Path("sweep.json").read_text())
    assert [one["name"] for one in held["points"]] == ["guidance=1", "guidance=2"]
    assert list(held["failed"]) == ["guidance=1e300"]
    assert "no values of guidance=1e300: " in out and not (run / "recipe.1.yaml").exists()
    scored = counted(monkeypatch)
    assert dmf_command(*words)[0] == 2 and len(scored) == 1, "that one alone is tried again"
    code, _, err = dmf_command("evaluate", "tiny", "--sweep", "guidance=1e299,1e300", "--json", "none.json")
    assert code == 2 and "2 of 2 points have no values: guidance=1e299, guidance=1e300; there are no others" in err
    held = json.loads(Path("none.json").read_text())
    assert held["points"] == [] and list(held["failed"]) == ["guidance=1e299", "guidance=1e300"]


def test_a_lone_point_has_no_best_and_no_plot(run: Path, dmf_command: Command) -> None:
    words = ["evaluate", "tiny", "--sweep", "steps=2", "--json", "sweep.json"]
    code, out, err = dmf_command(*words, "--write-best", "frechet_digits")
    assert code == 0 and "sweep: 1 point of 90 images" in out and "*" not in out, out + err
    assert json.loads(Path("sweep.json").read_text())["best"] == {}
    (home,) = [path for path in (run / "sweeps").iterdir() if path.name != "points"]
    assert sorted(path.name for path in home.iterdir()) == ["sweep.json", "table.txt"]
    assert read(run / "recipe.yaml").sampler.steps == 2  # it was asked for


def test_points_are_runs_within_the_run(tiny: Path, dmf_command: Command) -> None:
    hooks = "hooks=[{name: mlflow, system_metrics: false}]"
    assert dmf_command("train", tiny, EVALUATE, hooks)[0] == 0
    look = Look(f"sqlite:///{Path('mlflow.db').resolve()}")
    (parent,) = look.runs()
    for _ in range(2):  # the second time all is there
        code, out, err = dmf_command(
            "evaluate", "tiny", "--sweep", "sampler=ddim,heun", "guidance=1,1.5", "--json", "s.json"
        )
        assert code == 0, out + err
    runs = {one.info.run_name: one for one in look.runs()}
    names = ["ddim guidance=1", "ddim guidance=1.5", "heun guidance=1", "heun guidance=1.5"]
    assert sorted(runs) == sorted([*names, "tiny"]) and len(look.runs()) == 5
    for point in json.loads(Path("s.json").read_text())["points"]:
        child = runs[point["name"]]
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id and child.info.status == "FINISHED"
        assert child.data.params["sampler.name"] == point["settings"]["sampler"]
        assert child.data.params["sampler.guidance.scale"] in (point["settings"]["guidance"], "1.0")
        value = point["results"]["frechet_digits"]["value"]
        assert look.points(child.info.run_id, "eval/frechet_digits") == [(12, value)]
        assert "grid.png" in look.files(child.info.run_id)
    files = look.files(parent.info.run_id)
    assert {Path(name).name for name in files} >= {"plot.png", "sweep.json", "table.txt"}
    after = look.client.get_run(parent.info.run_id)
    assert (after.info.status, after.info.end_time) == ("FINISHED", parent.info.end_time)
    assert after.data.params == parent.data.params


class Both(Metric):
    better = {"": "lower", "coverage": "higher", "coverage_loss": "lower"}  # noqa: RUF012 - as a class fact is written

    def update(self, images: torch.Tensor, **given: object) -> None: ...

    def compute(self) -> dict[str, float]:
        return {}


def test_the_longest_name_that_fits_says_which_way_is_better() -> None:
    names = ["x", "coverage_digits", "coverage_loss", "x_sd"]
    assert ways(dict.fromkeys(names, Both())) == {"x": "lower", "coverage_digits": "higher", "coverage_loss": "lower"}
    assert best({"a": 2.0, "b": 1.0, "c": None}, "lower") == "b" and best({"a": 2.0, "b": 1.0}, "higher") == "a"
    assert best({"a": None}, "lower") is None


@pytest.mark.parametrize("keys", [["steps", "sampler"], ["sampler", "guidance"], ["sampler"]])
def test_a_plot_of_any_shape_is_drawn(tmp_path: Path, keys: list[str]) -> None:
    recipe, values = read("digits_dit"), {"steps": ["5", "50"], "sampler": ["ddim", "heun"], "guidance": ["1", "2.5"]}
    settings: list[dict[str, str]] = [{}]
    for key in keys:
        settings = [{**old, key: value} for old in settings for value in values[key]]
    points = [Point(one, recipe) for one in settings]
    results = [{"fid": {"value": math.exp(i)}, "recall": {"value": 0.1 * i, "sd": 0.02}} for i in range(len(points))]
    swept = Swept(points, results, {"fid": "lower", "recall": "higher"})
    sweep_plot.draw(swept, tmp_path / "plot.png", "title")
    assert Image.open(tmp_path / "plot.png").size[0] > 800
    assert swept.best("fid") is points[0] and swept.best("recall") is points[-1]
    assert sweep_plot.first_number(points) == {"steps": "steps", "guidance": "guidance"}.get(
        keys[0] if keys[0] != "sampler" else keys[-1]
    )
