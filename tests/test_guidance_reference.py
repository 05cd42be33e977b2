"""Autoguidance and scales an image through the commands: two small runs, an earlier checkpoint, and mistakes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dmf.core import Denoiser, ImageStreams, labels_cond, levels_of
from dmf.registry import build, read
from dmf.runner.assemble import Model, build_model, grid_of, part, spec_from_dict

Command = Callable[..., tuple[int, str, str]]
EARLIER = ["checkpoint={every: 4, keep: 3}"]  # of 12 steps: 4, 8 and 12


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of the digits: `tiny`, and `weak`, smaller, on another schedule, which never saw an image unlabelled."""
    from conftest import TINY

    from dmf.runner.cli import main

    folder = tmp_path_factory.mktemp("guided")
    # so that twelve steps learn something of the labels
    quick = TINY.replace("lr: 1e-3", "lr: 2e-2").replace("ema: 0.9", "ema: 0.5")
    (folder / "tiny.yaml").write_text(quick, encoding="utf-8")
    where = ["--runs", str(folder / "runs")]
    weak = ["name=weak", "backbone.hidden=16", "schedule=cosine", "prediction=v", "train.label_dropout=0"]
    assert main(["train", str(folder / "tiny.yaml"), *EARLIER, *where]) == 0
    assert main(["train", str(folder / "tiny.yaml"), *weak, "sampler.guidance=1", *where]) == 0
    return folder


@pytest.fixture
def runs(made: Path, workdir: Path) -> Path:
    """A copy of both in the working folder."""
    shutil.copy(made / "tiny.yaml", workdir)
    return Path(shutil.copytree(made / "runs", workdir / "runs"))


def images(command: Command, *words: object, run: str = "tiny") -> np.ndarray:
    code, _, err = command("sample", run, "--npz", "out.npz", "--count", 6, *words)
    assert code == 0, err
    with np.load("out.npz") as arrays:
        found: np.ndarray = arrays["arr_0"].astype(int)
        return found


def model_of(run: Path, step: int) -> tuple[Model, Denoiser]:
    """A run's averaged weights, put together by hand."""
    recipe = read(run / "recipe.yaml")
    model = build_model(recipe, spec_from_dict(json.loads((run / "spec.json").read_text())))
    model.backbone.load_state_dict(load_file(run / f"checkpoints/step-{step:08d}/ema.safetensors"))
    return model, model.denoiser(model.backbone.eval())


def by_hand(runs: Path, reference: str, step: int, w: float, count: int = 6) -> np.ndarray:
    """One DDIM step to sigma = 0, which is x0_hat: w strong + (1 - w) weak, the weak one asked at the same log SNR."""
    model, strong = model_of(runs / "tiny", 12)
    other, weak = model_of(runs / reference, step)
    recipe = read(runs / "tiny/recipe.yaml", ["sampler=ddim", "sampler.steps=1"])
    now = levels_of(model.schedule, part("grid", grid_of(recipe.sampler))(model.schedule, 1))[0]
    there = other.schedule.at(other.schedule.t_at(now.log_snr))
    x = now.sigma * ImageStreams(0, range(count), (1, 8, 8)).randn()
    cond = labels_cond(list(range(count)), model.pixels)
    out_of_reach = there.log_snr > now.log_snr + 1e-6  # of the cosine table: then it is the noise that is matched
    seen = x * (there.sigma / now.sigma if out_of_reach else there.alpha / now.alpha)
    with torch.inference_mode():
        x0 = w * strong(x, now, cond) + (1 - w) * weak(seen, there, cond)
    return model.codec.decode(x0).permute(0, 2, 3, 1).numpy().astype(int)


# another run, an earlier step


@pytest.mark.parametrize(("flag", "reference", "step"), [("weak", "weak", 12), ("@4", "tiny", 4), ("@8", "tiny", 8)])
def test_the_images_are_those_of_the_formula(
    runs: Path, dmf_command: Command, flag: str, reference: str, step: int
) -> None:
    words = ["--sampler", "ddim", "--steps", 1, "--guidance", 3, "--away-from", flag]
    got = images(dmf_command, *words)
    assert np.abs(got - by_hand(runs, reference, step, 3.0)).max() <= 1
    assert np.abs(got - images(dmf_command, *words[:-2])).max() > 9, "as with no reference at all"
    for size in (1, 4):
        assert np.abs(images(dmf_command, *words, "--batch-size", size) - got).max() <= 1


def test_what_the_flag_may_say(runs: Path, dmf_command: Command) -> None:
    words = ["--sampler", "ddim", "--steps", 2, "--guidance", 3]
    by_name, by_step = (images(dmf_command, *words, "--away-from", flag) for flag in ("weak", "weak@12"))
    assert np.array_equal(by_name, by_step)
    assert np.array_equal(by_name, images(dmf_command, *words, "--away-from", f"{runs}/weak"))
    raw = images(dmf_command, *words, "--away-from", "{run: weak, weights: raw}")
    assert not np.array_equal(by_name, raw)
    plain = images(dmf_command, *words)
    assert np.array_equal(plain, images(dmf_command, *words, "--away-from", "null"))
    unlabelled = images(dmf_command, *words, "--away-from", "{step: 8, labels: none}")
    assert not np.array_equal(unlabelled, images(dmf_command, *words, "--away-from", "@8"))


def test_a_network_that_never_dropped_a_label_is_guided_by_another(runs: Path, dmf_command: Command) -> None:
    code, _, err = dmf_command("sample", "weak", "--guidance", 2)
    assert code == 2 and "guide away from a weaker network" in err
    guided, alone = (images(dmf_command, "--guidance", w, "--away-from", "tiny@4", run="weak") for w in (2, 1))
    assert not np.array_equal(guided, alone)
    assert np.array_equal(alone, images(dmf_command, "--guidance", 1, run="weak")), "w = 1 asks no reference"


@pytest.mark.parametrize(
    ("run", "flag", "said"),
    [
        ("tiny", "wek", "sampler.reference: wek is no run"),
        ("tiny", "wek", "did you mean 'weak'?"),
        ("tiny", "weak@7", "no checkpoint of step 7; it has 10, 12"),
        ("tiny", "@12", "step 12 of this run is not earlier than the weights that it is to guide, of step 12"),
        ("tiny", "{}", "not earlier"),
        ("tiny", "weak@x", "after @ stands the step of a checkpoint, as in weak@400, or best"),
        ("tiny", "", "an empty text is no run"),
        ("tiny", "{run: weak, labels: none}", "never trained without labels"),
        ("tiny", "{run: weak, lables: same}", "did you mean 'labels'"),
        ("tiny", "{run: weak, step: 0}", "at least 1"),
        ("tiny", "other", "was trained on 3x32x32 with 10 classes, this run on 1x8x8 with 10 classes: give a run of"),
        ("tiny", "cats", "1x8x8 with 2 classes, this run on 1x8x8 with 10 classes"),
        ("tiny", "renamed", "with 10 classes, number 0 of them 'a0', this run"),
    ],
)
def test_references_that_cannot_be_get_one_message(
    runs: Path, dmf_command: Command, capsys: pytest.CaptureFixture[str], run: str, flag: str, said: str
) -> None:
    changes = {
        "other": {"shape": [3, 32, 32]},
        "cats": {"classes": ["cat", "dog"]},
        "renamed": {"classes": [f"a{k}" for k in range(10)]},
    }
    for name, change in changes.items():
        shutil.copytree(runs / "weak", runs / name)
        spec = json.loads((runs / name / "spec.json").read_text())
        (runs / name / "spec.json").write_text(json.dumps({**spec, **change}))
    try:
        code, out, err = dmf_command("sample", run, "--guidance", 2, "--away-from", flag, "--count", 2)
    except SystemExit as exit:  # argparse's own
        code, (out, err) = int(str(exit.code)), capsys.readouterr()
    assert code == 2 and out == ""
    assert said in err and "Traceback" not in err


def test_a_damaged_checkpoint_is_named(runs: Path, dmf_command: Command) -> None:
    weights = runs / "tiny/checkpoints/step-00000008/ema.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    code, _, err = dmf_command("sample", "tiny", "--guidance", 2, "--away-from", "@8")
    assert code == 2 and "step-00000008 is damaged" in err and "take another step of 4, 8, 12" in err


# in a recipe


def test_previews_wait_for_the_step_and_the_rest_is_guided_by_it(runs: Path, dmf_command: Command) -> None:
    words = ["name=own", *EARLIER, "preview={every: 4}", "sampler.reference={step: 8}", "log.every=4"]
    code, out, err = dmf_command("run", "tiny.yaml", *words)
    assert code == 0, err
    sheets = sorted(path.name for path in (runs / "own/samples").glob("step-*.png"))
    assert sheets == ["step-00000012.png"]
    log = (runs / "own/log.txt").read_text()
    assert "no preview at step 4: guided by step 8 of this run, which comes first" in log
    assert "no preview at step 8:" in log and "no preview at step 12:" not in log
    assert (runs / "own/samples/grid.png").exists()
    code, out, err = dmf_command("run", "tiny.yaml", *words)
    assert code == 0 and "own is done" in err + out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sampler.reference={step: 4}"], "step 4 of this run will not be there when it is needed"),
        (["sampler.reference={step: 7}"], "the steps kept to the end are 10, 12"),
        (["sampler.reference={step: 12}"], "step 12 of this run is not earlier than the weights"),
        (["sampler.reference={}"], "cannot guide themselves; write an earlier step"),
        (["sampler.reference={step: best}"], "its best checkpoint may be its newest, which cannot guide itself"),
        (["sampler.reference={run: weak, step: best}"], "sampler.reference: @best: runs/weak has no best checkpoint"),
        (["sampler.reference={run: weak, step: worst}"], "the step of a checkpoint, at least 1, or best"),
        (["sampler.reference={run: nobody}"], "nobody is no run"),
        (["sampler.reference={run: weak, step: 3}"], "no checkpoint of step 3"),
        (["sampler.reference={step: 10, labels: none}", "train.label_dropout=0"], "never trained without labels"),
        (["sampler.reference={run: [weak]}"], "sampler.reference.run: got a list of 1"),
        (["sampler.reference=weak"], "sampler.reference: got 'weak', expected a mapping or null"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_before_training(
    runs: Path, dmf_command: Command, words: list[str], said: str
) -> None:
    code, _, err = dmf_command("run", "tiny.yaml", "name=new", *words)
    assert code == 2 and said in err and "Traceback" not in err
    assert not list((runs / "new").glob("checkpoints/step-*"))


def test_a_reference_that_goes_away_costs_no_training(runs: Path, dmf_command: Command) -> None:
    from dmf.runner import pipeline

    words = ["name=new", "preview={every: 4}", "sampler.reference={run: weak}"]
    real = pipeline.check_reference

    def check_and_take_away(*given: object) -> None:
        real(*given)  # type: ignore[arg-type]
        shutil.rmtree(runs / "weak")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "check_reference", check_and_take_away)
        code, _, err = dmf_command("run", "tiny.yaml", *words)
    assert code == 2 and "weak is no run" in err, "the last sheet cannot be made, and says so"
    assert (runs / "new/checkpoints/step-00000012").exists()
    assert "no preview at step 4: sampler.reference: weak is no run" in (runs / "new/log.txt").read_text()


def test_the_protocol_and_what_is_due_know_the_references_weights(runs: Path, dmf_command: Command) -> None:
    score = ["evaluate={images: 70, metrics: [{name: frechet, features: digits}]}", "sampler.steps=1"]
    words = ["tiny.yaml", *EARLIER, *score, "sampler.reference={run: weak}"]
    assert dmf_command("run", *words)[0] == 0

    def protocol() -> dict[str, str]:
        results = json.loads((runs / "tiny/metrics.json").read_text())
        found: dict[str, str] = next(iter(results.values()))["protocol"]
        return found

    manifest = json.loads((runs / "weak/checkpoints/step-00000012/manifest.json").read_text())
    assert protocol()["guidance"] == "cfg(scale=2.0)"
    want = f"step 12, ema, the same labels, sha256 {manifest['ema.safetensors']}"
    assert protocol()["guidance.reference"] == want
    code, out, err = dmf_command("run", *words)
    assert code == 0 and "tiny is done" in out + err
    weak = ["name=weak", "backbone.hidden=16", "schedule=cosine", "prediction=v", "train.label_dropout=0"]
    assert dmf_command("train", "tiny.yaml", *weak, "sampler.guidance=1", "train.steps=14")[0] == 0
    assert dmf_command("run", *words)[0] == 0
    assert protocol()["guidance.reference"].startswith("step 14, ema"), "other weights: sampled and scored anew"


def test_the_protocol_spells_nested_guidance_out(runs: Path, dmf_command: Command) -> None:
    nested = "{name: rescale, of: {name: interval, of: 3, sigma_max: 5}}"
    score = ["--images", 66, "--metrics", "[{name: frechet, features: digits}]", "--steps", 1, "--json", "out.json"]
    found = []
    for guidance in (nested, "1", "{name: dynamic_threshold, of: 1}"):
        assert dmf_command("evaluate", "tiny", *score, "--guidance", guidance)[0] == 0
        protocol = next(iter(json.loads(Path("out.json").read_text()).values()))["protocol"]
        found.append((protocol["guidance"], protocol["guidance.reference"]))
    assert found == [
        ("rescale(of=interval(of=cfg(scale=3.0), sigma_min=0.0, sigma_max=5.0), amount=0.7)", "no labels"),
        ("none", "none"),
        ("dynamic_threshold(of=cfg(scale=1.0), percentile=0.995, limit=1.0)", "none"),
    ]


# a scale an image


def test_image_k_has_the_k_mod_n_th_scale_in_any_batch(runs: Path, dmf_command: Command) -> None:
    singles = [images(dmf_command, "--guidance", w) for w in (1, 2, 4)]
    want = np.stack([singles[k % 3][k] for k in range(6)])
    for size in (6, 4, 1):
        assert np.abs(images(dmf_command, "--guidance", "1,2,4", "--batch-size", size) - want).max() <= 1
    for a, b in ((0, 1), (1, 2)):
        assert np.abs(singles[a] - singles[b]).max() > 9
    code, _, err = dmf_command("sample", "tiny", "--guidance", "1,x,4")
    assert code == 2 and "sampler.guidance.scale" in err


def test_a_nested_guidance_on_the_command_line(runs: Path, dmf_command: Command) -> None:
    everywhere = images(dmf_command, "--guidance", "4")
    wide = images(dmf_command, "--guidance", "{name: interval, of: 4, sigma_max: 1e9}")
    narrow = images(dmf_command, "--guidance", "{name: interval, of: 4, sigma_max: 1}")
    nowhere = images(dmf_command, "--guidance", "{name: interval, of: 4, sigma_max: 1e-9}")
    assert np.array_equal(everywhere, wide) and not np.array_equal(everywhere, narrow)
    assert np.abs(nowhere - images(dmf_command, "--guidance", "1")).max() <= 1


@pytest.mark.parametrize("command", [["validate", "tiny.yaml"], ["run", "tiny.yaml", "name=new"]])
def test_an_empty_interval_is_refused(runs: Path, dmf_command: Command, command: list[str]) -> None:
    code, _, err = dmf_command(*command, "sampler.guidance={name: interval, of: 2, sigma_min: 5, sigma_max: 3}")
    assert code == 2 and "sigma_min is 5.0 and sigma_max 3.0" in err and "Traceback" not in err
    assert not (runs / "new/checkpoints").exists() or not list((runs / "new/checkpoints").iterdir())


def test_a_guidance_built_by_name_is_the_recipes(runs: Path) -> None:
    recipe = read("tiny.yaml", ["sampler.guidance={name: interval, of: {name: cfg, scale: [1, 3]}}"])
    assert recipe.sampler.guidance.options["of"] == {"name": "cfg", "scale": [1.0, 3.0]}
    assert build("guidance", "interval", **recipe.sampler.guidance.options).of.scale == [1.0, 3.0]
    assert read("tiny.yaml", ["sampler.reference.step=4"]).as_dict()["sampler"]["reference"] == {
        "run": None,
        "step": 4,
        "weights": "ema",
        "labels": "same",
    }
