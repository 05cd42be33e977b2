"""RUN@STEP and RUN@best: another checkpoint than the newest, wherever weights of a run are used."""

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fork_kit import on_ranks
from PIL import Image
from safetensors.torch import load_file

from dmf.registry import UserError, read
from dmf.runner import checkpoints, reference
from dmf.runner.assemble import build_model
from dmf.runner.commands import evaluate, evaluate_run
from dmf.runner.evaluation import Evaluation
from dmf.runner.folder import RunFolder
from dmf.runner.runs import spec_of, split
from dmf.runner.weights import find_weights
from dmf.runner.world import World

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tiny: Path, dmf_command: Command) -> Path:
    """Checkpoints of steps 5, 10 and 12; 5 is the best, whatever its loss was."""
    code, _, err = dmf_command("train", tiny, "checkpoint={every: 5, keep: 3, best: loss}", "log.every=5")
    assert code == 0, err
    best = Path("runs/tiny/checkpoints") / checkpoints.POINTER
    best.write_text(json.dumps({**json.loads(best.read_text()), "step": 5}))
    return Path("runs/tiny")


def sampled(dmf_command: Command, run: str, *words: object) -> bytes:
    code, _, err = dmf_command("sample", run, "--count", 3, "--npz", "x.npz", *words)
    assert code == 0, err
    return Path("x.npz").read_bytes()


@pytest.mark.usefixtures("run")
def test_images_are_of_that_step(dmf_command: Command) -> None:
    newest, fifth = sampled(dmf_command, "tiny"), sampled(dmf_command, "tiny@5")
    assert newest != fifth and sampled(dmf_command, "runs/tiny@12") == newest
    assert sampled(dmf_command, "tiny@best") == fifth
    assert sampled(dmf_command, "tiny@5", "--weights", "raw") != fifth


@pytest.mark.usefixtures("run")
def test_guidance_leads_away_from_that_step(dmf_command: Command) -> None:
    guided = ("--guidance", 3, "--away-from")
    led = sampled(dmf_command, "tiny", *guided, "@5")
    assert led != sampled(dmf_command, "tiny", *guided, "@10")
    assert sampled(dmf_command, "tiny", *guided, "tiny@best") == sampled(dmf_command, "tiny", *guided, "@best") == led
    code, _, err = dmf_command("sample", "tiny@5", *guided, "@best")
    assert code == 2 and "step 5 of this run is not earlier than the weights that it is to guide" in err, err


def test_a_run_may_be_guided_by_its_own_best_once_it_is_trained(run: Path, tiny: Path, dmf_command: Command) -> None:
    words = ["run", tiny, "sampler.reference={step: best}", "evaluate.images=0"]
    code, _, err = dmf_command(*words, "train.steps=20")
    assert code == 2 and "while a run is trained its best checkpoint may be its newest" in err
    assert dmf_command(*words)[0] == 0
    done = json.loads((run / "done.json").read_text())
    (run / "done.json").write_text(json.dumps({**done, "stopped": {"step": 12, "of": 20}}))
    code, out, err = dmf_command(*words, "train.steps=20")
    assert code == 0 and "ended it at step 12 of 20" in out + err, "a hook has ended it"


def test_values_are_of_that_step_and_say_so(run: Path, dmf_command: Command) -> None:
    words = ("--metrics", "[{name: frechet, features: digits}]", "--images", 70, "--json", "report.json")
    found = {}
    for name in ("tiny", "tiny@best", "tiny@10"):
        code, _, err = dmf_command("evaluate", name, *words)
        assert code == 0, err
        held = json.loads(Path("report.json").read_text())["frechet_digits"]
        found[held["protocol"]["trained_steps"]] = held["value"]
    assert list(found) == ["12", "5", "10"] and len(set(found.values())) == 3
    code, _, err = dmf_command("evaluate", "tiny@5", *words, "--sweep", "steps=2,3", "weights=ema,raw")
    assert code == 0, err
    points = json.loads(Path("report.json").read_text())["points"]
    assert [one["results"]["frechet_digits"]["protocol"]["trained_steps"] for one in points] == ["5"] * 4
    (title,) = {path.name for path in run.glob("sweeps/*/plot.png")}
    assert title == "plot.png"
    code, out, err = dmf_command("evaluate", "tiny", *words, "--sweep", "steps=2")
    assert code == 0 and "done already" not in out + err, "a point of another step is another point"


def test_points_that_another_network_led_are_other_points(run: Path, dmf_command: Command) -> None:
    words = ("--metrics", "[{name: frechet, features: digits}]", "--images", 70, "--sweep", "away_from=@best")
    best = run / "checkpoints" / checkpoints.POINTER
    for step, points in ((5, 1), (5, 1), (10, 2)):
        best.write_text(json.dumps({**json.loads(best.read_text()), "step": step}))
        assert dmf_command("evaluate", "tiny", *words)[0] == 0
        assert len(list(run.glob("sweeps/points/*"))) == points


def test_weights_that_go_while_the_data_are_read_are_found_anew(
    run: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that goes on keeps but the newest."""
    real = evaluate_run.build_dataset

    def then_gone(*given: Any) -> Any:
        shutil.rmtree(run / "checkpoints/step-00000012")
        return real(*given)

    monkeypatch.setattr(evaluate_run, "build_dataset", then_gone)
    words = ("--metrics", "[{name: frechet, features: digits}]", "--images", 70, "--json", "report.json")
    code, _, err = dmf_command("evaluate", "tiny", *words)
    assert code == 0, err
    assert json.loads(Path("report.json").read_text())["frechet_digits"]["protocol"]["trained_steps"] == "10"


def test_a_training_that_goes_on_changes_nothing_of_a_sweep(
    run: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer, aside, whole = run / "checkpoints/step-00000012", run / "step-00000012", Evaluation.run
    newer.rename(aside)

    def then_newer(self: Evaluation, *given: Any, **more: Any) -> Any:
        if aside.exists():
            aside.rename(newer)
        return whole(self, *given, **more)

    monkeypatch.setattr(Evaluation, "run", then_newer)
    words = ("--metrics", "[{name: frechet, features: digits}]", "--images", 70, "--json", "report.json", "--sweep")
    code, _, err = dmf_command("evaluate", "tiny", *words, "weights=raw,ema")
    assert code == 0 and newer.exists(), err
    points = json.loads(Path("report.json").read_text())["points"]
    assert [one["results"]["frechet_digits"]["protocol"]["trained_steps"] for one in points] == ["10", "10"]
    code, out, err = dmf_command("evaluate", "tiny", *words, "weights=raw,ema")
    assert code == 0 and "done already" not in out + err, "those were of step 10"


def found_by_rank_0(world: World, folder: Path) -> None:
    """Another rank may see another newest checkpoint: it does not look."""
    if not world.first:
        reference.find_weights = lambda *given: pytest.fail("each rank finds its own")
    recipe = read(folder / "recipe.yaml", ["sampler.reference={run: tiny, step: 5}"])
    model = build_model(recipe, spec_of(RunFolder(folder)))
    guide = reference.load_reference(recipe, model, RunFolder(folder), 12, world)
    assert guide is not None and guide.about.startswith("step 5, ema")


def test_ranks_agree_on_the_weights_that_guide(run: Path) -> None:
    on_ranks(2, found_by_rank_0, run.absolute())


def scored_by_rank_0(world: World, folder: Path) -> None:
    if not world.first:
        evaluate_run.find_weights = lambda *given: pytest.fail("each rank finds its own")
    evaluate_run.on_ranks = lambda device, work, timeout_s: work(world) or 0
    words = ["evaluate", folder, "--metrics", "[{name: frechet, features: digits}]", "--images", 70, "--no-track"]
    parser = argparse.ArgumentParser()
    evaluate.arguments(parser)
    args = parser.parse_args([str(word) for word in words[1:]])
    evaluate._sort_words(args)
    args.runs = Path("runs")
    assert evaluate_run.score_run(args) == 0


def test_ranks_agree_on_the_weights_that_are_scored(run: Path) -> None:
    on_ranks(2, scored_by_rank_0, run.absolute())


def test_weights_that_were_removed_meanwhile_are_told(run: Path) -> None:
    found = find_weights(RunFolder(run), "ema", 5)
    shutil.rmtree(found.path)
    with pytest.raises(UserError, match=r"Where a training goes on it keeps the newest .*, as RUN@STEP"):
        found.read()
    with pytest.raises(UserError, match="Where a training goes on"):
        _ = found.sha256


def test_a_network_begins_at_the_best_and_noise_is_of_its_step(run: Path, tiny: Path, dmf_command: Command) -> None:
    code, _, err = dmf_command("train", tiny, "name=next", "init_from=tiny@best", "train.lr=1e-12", "train.steps=1")
    assert code == 0, err
    before = load_file(run / "checkpoints/step-00000005/ema.safetensors")
    after = load_file("runs/next/checkpoints/step-00000001/model.safetensors")
    assert all(torch.allclose(after[name], value, atol=1e-6) for name, value in before.items())
    code, _, err = dmf_command("likelihood", "tiny@5", "--images", 4, "--json", "bits.json")
    assert code == 0, err
    assert json.loads(Path("bits.json").read_text())["bits_per_dim"]["protocol"]["trained_steps"] == "5"


def test_a_run_whose_folder_is_called_like_a_setting_is_a_run(run: Path, dmf_command: Command) -> None:
    run.rename("runs/k=v")
    Path("sampler.steps=2").mkdir()  # but no run
    long = f"evaluate.metrics=[{{name: frechet, features: digits}}{' ' * 300}]"
    for name in ("k=v", "runs/k=v@5"):
        code, _, err = dmf_command("evaluate", long, "--images", 70, "sampler.steps=2", "--no-track", name)
        assert code == 0, err


@pytest.mark.usefixtures("run")
def test_data_that_the_network_does_not_know_are_refused(dmf_command: Command) -> None:
    for name in ("cats", "dogs"):
        Path("pets", name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(Path("pets", name, "0.png"))
    words = ("--metrics", "[{name: frechet, features: digits}]", "--images", 70)
    code, _, err = dmf_command("evaluate", "tiny", "dataset={name: image_folder, root: pets}", *words)
    assert code == 2 and "with 2 classes, and the run was trained on 1x8x8 with 10 classes: its network" in err, err


@pytest.mark.usefixtures("run")
def test_what_is_not_there_is_told(tiny: Path, dmf_command: Command) -> None:
    for words, said in (
        (("sample", "tiny@7"), "no checkpoint of step 7; it has 5, 10, 12"),
        (("evaluate", "tini@7"), "tini is no run"),
        (("sample", "tiny@last"), "tiny@last is no run"),
        (("train", tiny, "name=b", "init_from=tiny@7"), "init_from: runs/tiny has no checkpoint of step 7"),
    ):
        code, _, err = dmf_command(*words)
        assert code == 2 and said in err, err
    Path("runs/tiny/checkpoints", checkpoints.POINTER).unlink()
    led = ("sample", "tiny", "--guidance", 2, "--away-from", "@best")
    for words in (("sample", "tiny@best"), led, ("train", tiny, "name=b", "init_from=tiny@best")):
        code, _, err = dmf_command(*words)
        assert code == 2 and "no best checkpoint: write checkpoint.best" in err and "5, 10, 12" in err, err


def test_a_run_that_is_called_so_comes_first(workdir: Path) -> None:
    assert split("a@5", workdir) == ("a", "5")
    (workdir / "a@5").mkdir()
    (workdir / "a@5/recipe.yaml").write_text("")
    assert split("a@5", workdir) == ("a@5", None)
    assert split("a@5@best", workdir) == ("a@5", "best")
    assert split("a@b", workdir) == ("a@b", None)
