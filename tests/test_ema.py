"""Averages in a run: never mixed up with the weights, kept as snapshots, made again at other lengths."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file
from torch import Tensor

from dmf.core.averages.power import exponent
from dmf.plugins.backbones.dit import DiT
from dmf.registry import read
from dmf.runner.assemble import build_model
from dmf.runner.cli import main
from dmf.runner.folder import RunFolder
from dmf.runner.runs import spec_of
from dmf.runner.training.step import Stepper

STEPS = 24
# the first never moves: it stays what the network was drawn as, and is as far from the weights as can be
EMA = (
    "[{name: fixed, decay: 0.9, interval: 1000000}, {name: power, length: 0.05, snapshots: 3, dtype: float32},"
    " {name: power, length: 0.1, snapshots: 72 images}]"
)
SCORED = "evaluate={images: 30, held_out: false, metrics: [{name: frechet, features: digits}]}"
Tensors = dict[str, Tensor]
Command = Callable[..., tuple[int, str, str]]


def dmf(*words: object) -> tuple[int, str]:
    """Run a command in this process: its exit code, and all that it said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main([str(word) for word in words])
    return code, said.getvalue()


class Made(NamedTuple):
    """A run, the fingerprints of the networks that were asked in it, and the weights after each step."""

    run: Path
    seen: list[str]
    trace: dict[int, Tensors]


@pytest.fixture(name="made", scope="module")
def made_fixture(tmp_path_factory: pytest.TempPathFactory) -> Made:
    home = tmp_path_factory.mktemp("ema")
    (home / "tiny.yaml").write_text(TINY, encoding="utf-8")
    keys = [f"train.steps={STEPS}", f"train.ema={EMA}", "checkpoint={every: 6, keep: 9}", "sample.per_class=1"]
    during = "evaluate.during={every: 288, images: 20}"
    preview = "preview={every: 8, start: 8, per_class: 1}"
    with asked() as seen, traced() as trace:
        code, said = dmf("run", home / "tiny.yaml", "--runs", home / "runs", *keys, SCORED, during, preview)
    assert code == 0, said
    return Made(home / "runs/tiny", seen, trace)


@pytest.fixture(name="run")
def run_fixture(made: Made, tmp_path: Path) -> Path:
    """A copy of the run, to change."""
    return Path(shutil.copytree(made.run, tmp_path / "runs/tiny"))


@contextlib.contextmanager
def asked() -> Iterator[list[str]]:
    """The fingerprints of the networks that are asked without being trained, in their order."""
    seen: list[str] = []
    forward = DiT.forward

    def watched(self: DiT, *given: Tensor, **more: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            seen.append(mark(self.state_dict()))
        return forward(self, *given, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DiT, "forward", watched)
        yield seen


@contextlib.contextmanager
def traced() -> Iterator[dict[int, Tensors]]:
    """The weights after each step of a training."""
    trace: dict[int, Tensors] = {}
    take_step = Stepper.__call__

    def watched(self: Stepper) -> float:
        waited = take_step(self)
        network = self.state.learner.backbone
        trace[self.state.step] = {name: value.clone() for name, value in network.state_dict().items()}
        return waited

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stepper, "__call__", watched)
        yield trace


def mark(tensors: Tensors) -> str:
    return f"{sum(float(value.double().abs().sum()) for value in tensors.values()):.9g}"


def weights(run: Path, step: int = STEPS, group: str = "model") -> Tensors:
    return load_file(run / f"checkpoints/step-{step:08d}/{group}.safetensors")


def kept(run: Path, label: str, step: int = STEPS) -> Tensors:
    return load_file(run / f"averages/{label}/step-{step:08d}/weights.safetensors")


def exact(trace: dict[int, Tensors], length: float, until: int = STEPS) -> Tensors:
    """The power average by brute force: the weights after step k count as the profile's area over that step."""
    shares = np.diff((np.arange(until + 1) / until) ** (exponent(length) + 1)).tolist()
    return {
        name: torch.stack([share * trace[k][name].double() for k, share in enumerate(shares, 1)]).sum(0)
        for name in trace[1]
    }


def apart(a: Tensors, b: Tensors) -> float:
    """The distance of all weights taken as one vector."""
    return float(sum((a[name].double() - b[name].double()).square().sum() for name in b)) ** 0.5


# -- raw weights and averages are never mixed up -----------------------------------------------------------------------


def test_a_run_shows_and_scores_its_first_average_alone(made: Made) -> None:
    run, seen, _ = made
    folder = RunFolder(run)
    drawn = build_model(read(folder.recipe), spec_of(folder)).backbone.state_dict()
    assert all(torch.equal(value, drawn[name]) for name, value in weights(run, group="ema").items())
    assert mark(weights(run)) != mark(drawn) != mark(weights(run, group="ema-power-0.05"))
    assert len(seen) > 8 and set(seen) == {mark(drawn)}  # previews, scores on the way, sheet, scores at the end
    lines = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    assert {one["protocol"]["weights"] for line in lines for one in line["results"].values()} == {"ema"}


@pytest.mark.parametrize(
    ("name", "group"),
    [("raw", "model"), ("ema", "ema"), ("power-0.050", "ema-power-0.05"), ("fixed-0.9-every-1000000", "ema")],
)
def test_sampling_scoring_and_export_use_the_weights_that_are_named(run: Path, name: str, group: str) -> None:
    with asked() as seen:
        assert dmf("sample", run, "--weights", name, "--count", 10)[0] == 0
        code, said = dmf("evaluate", run, "--weights", name, "--no-track", "--json", run / "scored.json")
    assert code == 0, said
    assert seen and set(seen) == {mark(weights(run, group=group))}
    told = {one["protocol"]["weights"] for one in json.loads((run / "scored.json").read_text()).values()}
    assert told == {group.removeprefix("ema-") if group != "model" else name}
    assert dmf("export", run, "--weights", name, "--out", run / "out.safetensors")[0] == 0
    assert mark(load_file(run / "out.safetensors")) == mark(weights(run, group=group))


@pytest.mark.parametrize(("name", "group"), [("raw", "model"), ("ema", "ema"), ("power-0.10", "ema-power-0.1")])
def test_a_training_starts_from_the_weights_that_are_named(run: Path, name: str, group: str) -> None:
    recipe = run.parent.parent / "tiny.yaml"
    recipe.write_text(TINY, encoding="utf-8")
    given = [f"init_from={{source: tiny, weights: {name}}}", "name=next", "train.steps=1", "train.ema=0.999999"]
    code, said = dmf("train", recipe, "--runs", run.parent, *given, "train.lr=1e-12", "sample.per_class=1")
    assert code == 0, said
    for found in (weights(run.parent / "next", 1), weights(run.parent / "next", 1, "ema")):
        assert apart(found, weights(run, group=group)) < 1e-6


@pytest.mark.parametrize(("name", "group"), [("raw", "model"), ("power-5e-2", "ema-power-0.05")])
def test_guidance_leads_away_from_the_weights_that_are_named(run: Path, name: str, group: str) -> None:
    away = f"{{step: 6, weights: {name}}}"
    with asked() as seen:
        code, said = dmf("sample", run, "--count", 10, "--away-from", away)
    assert code == 0, said
    assert set(seen) == {mark(weights(run, group="ema")), mark(weights(run, 6, group))}


def test_a_frozen_weight_is_its_own_average(tiny: Path, dmf_command: Command) -> None:
    given = ["train.freeze=['layers.0.*']", "train.ema=[0.9, {name: power}]", "sample.per_class=1", "train.steps=5"]
    assert dmf_command("train", tiny, *given)[0] == 0
    run = tiny.parent / "runs/tiny"
    drawn = build_model(read(tiny), spec_of(RunFolder(run))).backbone.state_dict()
    frozen = [name for name in drawn if name.startswith("layers.0.")]
    for group in ("model", "ema", "ema-power-0.1"):
        found = weights(run, 5, group)
        assert frozen and all(torch.equal(found[name], drawn[name]) for name in frozen)
        assert apart(found, drawn) > 0


# -- snapshots ---------------------------------------------------------------------------------------------------------


def test_tracks_and_snapshots_are_the_averages_of_all_weights(made: Made) -> None:
    run, _, trace = made
    moved = apart(trace[STEPS], trace[1])
    assert apart(weights(run, group="ema-power-0.05"), exact(trace, 0.05)) < 1e-5 * moved
    assert apart(weights(run, 12, "ema-power-0.1"), exact(trace, 0.1, 12)) < 1e-5 * moved
    assert sorted(path.name for path in (run / "averages/power-0.1").iterdir()) == [
        f"step-{step:08d}" for step in range(3, STEPS + 1, 3)
    ]
    for name, value in kept(run, "power-0.05").items():
        assert torch.equal(value, weights(run, group="ema-power-0.05")[name])
    half = kept(run, "power-0.1", 12)
    assert {value.dtype for value in half.values()} == {torch.float16}
    assert all(torch.equal(half[name], one.half()) for name, one in weights(run, 12, "ema-power-0.1").items())


def test_snapshots_are_cut_back_when_a_run_goes_on(run: Path) -> None:
    """What came after the last checkpoint is made again, and is the same; what was half written is gone."""
    before = {path: path.read_text() for path in run.glob("averages/*/*/manifest.json")}
    for path in run.glob("checkpoints/step-*"):
        if int(path.name[5:]) > 12:
            shutil.rmtree(path)
    (run / "averages/power-0.1/step-00000015/weights.safetensors").write_bytes(b"other")
    (run / "averages/power-0.1/.tmp-00000018").mkdir()
    stray = run / "averages/power-0.1/step-00000013"
    shutil.copytree(run / "averages/power-0.1/step-00000009", stray)
    code, said = dmf("train", run / "recipe.yaml", "--runs", run.parent)
    assert code == 0 and "going on from step 12" in said, said
    assert {path: path.read_text() for path in run.glob("averages/*/*/manifest.json")} == before
    assert not stray.exists() and not list(run.glob("averages/*/.tmp*"))


# -- other lengths afterwards ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "step"), [(0.07, STEPS), (0.12, STEPS), (0.06, 15)])
def test_an_average_of_another_length_is_the_one_of_all_weights(
    made: Made, run: Path, length: float, step: int
) -> None:
    code, said = dmf("ema", f"{run}@{step}", "--length", length)
    assert code == 0 and f"posthoc-{length}" in said and f"step {step}, from " in said
    wanted = exact(made.trace, length, step)
    moved = apart(made.trace[step], made.trace[1])
    assert apart(kept(run, f"posthoc-{length}", step), wanted) < 0.01 * moved
    assert apart(kept(run, "power-0.1", step), wanted) > 0.03 * moved  # a track is another average


def test_what_was_made_is_sampled_scored_and_swept(run: Path) -> None:
    code, said = dmf("ema", run, "--length", "0.07,0.12", "--metric", "[{name: frechet, features: digits}]")
    assert code == 0 and "length  frechet_digits" in said and "* the best (frechet" in said, said
    assert list(run.glob("sweeps/*/plot.png"))
    with asked() as seen:
        assert dmf("sample", run, "--weights", "posthoc-0.12", "--count", 5)[0] == 0
    assert set(seen) == {mark(kept(run, "posthoc-0.12"))}
    assert dmf("export", run, "--weights", "posthoc-0.07", "--out", run / "out.safetensors")[0] == 0
    assert mark(load_file(run / "out.safetensors")) == mark(kept(run, "posthoc-0.07"))
    assert {value.dtype for value in kept(run, "posthoc-0.12").values()} == {torch.float32}


def test_a_length_is_found_however_it_is_written(run: Path) -> None:
    """As the recipe or a command has it, or with the zeros that another has: it is a number."""
    code, said = dmf("ema", run, "--length", "0.070,0.10,0.12345678", "--metric", "[{name: frechet, features: digits}]")
    assert code == 0 and "posthoc-0.12345678" in said, said
    for name, folder in (
        ("posthoc-0.10", "posthoc-0.1"),
        ("posthoc-.07", "posthoc-0.07"),
        ("posthoc-7e-2", "posthoc-0.07"),
    ):
        assert dmf("export", run, "--weights", name, "--out", run / "out.safetensors", "--force")[0] == 0
        assert mark(load_file(run / "out.safetensors")) == mark(kept(run, folder))
    code, said = dmf("evaluate", run, "evaluate.weights=power-0.10", "--no-track", "--json", run / "scored.json")
    assert code == 0, said
    told = {one["protocol"]["weights"] for one in json.loads((run / "scored.json").read_text()).values()}
    assert told == {"power-0.1"}
    code, said = dmf("export", run, "--weights", "posthoc-0.110", "--out", run / "other.safetensors")
    assert code == 2 and "has no posthoc-0.11; it has posthoc-0.07, posthoc-0.1, posthoc-0.12345678; " in said
    code, said = dmf("export", run, "--weights", "posthoc-long", "--out", run / "other.safetensors")
    assert code == 2 and "after posthoc- stands a length, as in posthoc-0.07; 'long' is none" in said


def test_a_damaged_snapshot_is_named_and_left_out(run: Path) -> None:
    bad = run / "averages/power-0.1/step-00000009/weights.safetensors"
    bad.write_bytes(bad.read_bytes()[:-1] + b"?")
    code, said = dmf("ema", run, "--length", 0.07)
    assert code == 0 and "is damaged: weights.safetensors" in said and "left out" in said
    assert "from 15 snapshots of length 0.05 and 0.1 at 8 steps, 3 to 24" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--length", "0.01"), "no average of length 0.01 (off by"),
        (("--length", "0.01"), "they give lengths from"),
        (("@5", "--length", "0.07"), "no snapshot of step 5; it has 3, 6, 9, 12"),
        (("--length", "0.3"), "a relative length of 0.3 has no profile"),
        (("--length", "0.07", "--images", 10), "give --metric too"),
    ],
)
def test_what_cannot_be_made_is_told(made: Made, words: tuple[object, ...], told: str) -> None:
    at, words = (words[0], words[1:]) if str(words[0]).startswith("@") else ("", words)
    code, said = dmf("ema", f"{made.run}{at}", *words)
    assert code == 2 and told in said, said


def test_weights_that_are_not_there_are_told(made: Made) -> None:
    code, said = dmf("sample", made.run, "--weights", "power-0.5")
    assert code == 2 and "did you mean 'power-0.05'" in said
    assert "it has raw, ema, power-0.05, power-0.1; ema is fixed-0.9-every-1000000" in said
    code, said = dmf("sample", made.run, "--weights", "posthoc-0.02")
    assert code == 2 and "--length 0.02 makes it" in said
    code, said = dmf("evaluate", made.run, "--sweep", "length=wide")
    assert code == 2 and "'wide' is no number" in said


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (["train.ema=[0.9, {name: fixed, decay: 0.9}]"], "train.ema: fixed-0.9 stands there more than once"),
        ([SCORED, "evaluate.weights=power-0.1"], "keeps no average called 'power-0.1'; there are raw, ema, fixed-0.9"),
        ([SCORED, "evaluate.weights=posthoc-0.1"], "is made by `dmf ema` after the training"),
        (["train.ema=[{name: power, length: 0.3}]"], "train.ema.0.length: got 0.3, expected"),
    ],
)
def test_a_recipe_with_averages_that_cannot_be(tiny: Path, dmf_command: Command, keys: list[str], told: str) -> None:
    code, out, error = dmf_command("run", tiny, *keys)
    assert code == 2 and told in error, out + error
    assert not (tiny.parent / "runs/tiny/checkpoints").exists() or not list(
        (tiny.parent / "runs/tiny/checkpoints").iterdir()
    )


def test_a_run_without_snapshots_says_how_to_keep_them(tiny: Path, dmf_command: Command) -> None:
    assert dmf_command("train", tiny, "train.steps=2", "sample.per_class=1")[0] == 0
    code, _, error = dmf_command("ema", "tiny", "--length", "0.05")
    assert code == 2 and "kept no snapshots" in error and "{name: power, length: 0.05, snapshots: 50k images}" in error
