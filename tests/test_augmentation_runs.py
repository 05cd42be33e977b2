"""A model that was told of its augmentations trains, goes on, samples, encodes and is scored by the usual commands."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from data_kit import paint
from latents_kit import make_autoencoder
from safetensors.torch import load_file

from dmf.core import Cond
from dmf.plugins.backbones.dit import DiT
from dmf.runner.cli import main

Command = Callable[..., tuple[int, str, str]]
TOLD = "augment=[{name: edm, probability: 0.5}, crop]"
SCORED = "evaluate={images: 20, metrics: [{name: kernel, features: digits, subset_size: 10}]}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the runs `tiny`, trained with `edm`, and `plain`, without."""
    folder = tmp_path_factory.mktemp("told")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    where = ["--runs", str(folder / "runs")]
    assert main(["run", str(folder / "tiny.yaml"), TOLD, SCORED, *where]) == 0
    assert main(["train", str(folder / "tiny.yaml"), "name=plain", *where]) == 0
    return folder


@pytest.fixture
def runs(folder: Path, workdir: Path) -> Path:
    return folder / "runs"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """What the network is told of augmentations, call by call."""
    heard: list[torch.Tensor] = []
    forward = DiT.forward

    def listening(self: DiT, x: torch.Tensor, noise: torch.Tensor, cond: Cond) -> torch.Tensor:
        heard.append(cond["augmentation"])
        assert len(cond["augmentation"]) == len(x)
        return forward(self, x, noise, cond)

    monkeypatch.setattr(DiT, "forward", listening)
    return heard


def test_it_trains_samples_and_is_scored(runs: Path) -> None:
    run = runs / "tiny"
    assert (run / "samples/grid.png").exists() and (run / "metrics.json").exists()
    weights = load_file(run / "checkpoints/step-00000012/ema.safetensors")
    assert any(tuple(value.shape) == (32, 9) for value in weights.values())
    assert json.loads((run / "spec.json").read_text())["cond"].keys() == {"class"}, "it is not of the data"
    facts = json.loads((run / "facts.json").read_text())
    assert {"part.augmentation:edm", "part.augmentation:crop"} <= facts.keys()


def test_training_hears_labels_even_where_the_class_is_dropped(
    tiny: Path, dmf_command: Command, told: list[torch.Tensor]
) -> None:
    assert dmf_command("train", tiny, TOLD, "train.label_dropout=0.99", "train.steps=2")[0] == 0
    heard = [one for one in told if len(one) > 1]  # but for the summary of the network
    assert heard and all(0.3 < (one != 0).any(1).double().mean() < 1 for one in heard)


def test_it_goes_on_where_it_stopped(tiny: Path, runs: Path, dmf_command: Command) -> None:
    assert dmf_command("train", tiny, TOLD, "train.steps=5")[0] == 0
    assert dmf_command("train", tiny, TOLD)[0] == 0
    ours, straight = (
        load_file(where / "tiny/checkpoints/step-00000012/model.safetensors") for where in (tiny.parent / "runs", runs)
    )
    assert ours.keys() == straight.keys()
    assert all(torch.equal(ours[name], straight[name]) for name in ours)
    code, _, err = dmf_command("train", tiny, "train.steps=20")
    assert code == 2 and "augment" in err, "another augmentation is another run"


@pytest.mark.parametrize(
    "words",
    [
        ["sample", "--count", 3, "--npz", "o.npz"],
        ["sample", "--count", 3, "--guidance", 3, "--npz", "o.npz"],
        ["sample", "--count", 3, "--labels", "none", "--npz", "o.npz"],
        ["evaluate", "--images", 20],
        ["likelihood", "--images", 2, "--steps", 2],
        ["encode", "one.png", "--labels", 3, "--out", "n.safetensors"],
    ],
    ids=lambda words: " ".join(map(str, words[:4])),
)
def test_every_command_tells_it_zeros(
    words: list[object], runs: Path, workdir: Path, dmf_command: Command, told: list[torch.Tensor]
) -> None:
    paint(workdir / "one.png", 8, 8, mode="L")
    code, _, err = dmf_command(words[0], "tiny", "--runs", runs, *words[1:])
    assert code == 0, err
    assert told and not any(one.any() for one in told)


@pytest.mark.parametrize("labels", ["same", "none"])
@pytest.mark.parametrize(("run", "reference"), [("tiny", "plain"), ("plain", "tiny")])
def test_one_that_was_told_and_one_that_was_not_guide_each_other(
    run: str, reference: str, labels: str, runs: Path, workdir: Path, dmf_command: Command
) -> None:
    words = ["--guidance", 2, "--away-from", f"{{run: {reference}, labels: {labels}}}", "--npz", "o.npz"]
    code, _, err = dmf_command("sample", run, "--runs", runs, "--count", 3, *words)
    assert code == 0, err


def test_unlabelled_pictures_train_and_sample_and_are_not_guided(workdir: Path, dmf_command: Command) -> None:
    recipe = workdir / "told.yaml"
    recipe.write_text(TINY, encoding="utf-8")
    for number in range(6):
        paint(workdir / f"pictures/{number}.png", seed=number)
    of_these = [TOLD, "dataset={name: image_folder, root: pictures, size: 8}", "evaluate.images=0"]
    code, _, err = dmf_command("run", recipe, *of_these, "sampler.guidance=1")
    assert code == 0, err
    assert dmf_command("sample", "tiny", "--count", 5, "--npz", "o.npz")[0] == 0
    with np.load("o.npz") as arrays:
        assert arrays["arr_0"].shape == (5, 8, 8, 3)
    for words in (["run", recipe, *of_these, "name=guided"], ["sample", "tiny", "--guidance", 2, "--npz", "o.npz"]):
        code, _, err = dmf_command(*words)
        assert code == 2 and "guidance needs classes" in err, err


def test_images_are_changed_before_they_are_encoded(workdir: Path, dmf_command: Command) -> None:
    recipe = workdir / "told.yaml"
    recipe.write_text(TINY, encoding="utf-8")
    for number in range(6):
        paint(workdir / f"pets/{'cat' if number % 2 else 'dog'}/{number}.png", seed=number)
    codec = f"codec={{name: autoencoder_kl, path: {make_autoencoder(workdir / 'vae')}, slice: 4}}"
    of_these = [TOLD, codec, "dataset={name: image_folder, root: pets, size: 16}", "evaluate.images=0"]
    code, out, err = dmf_command("run", recipe, *of_these)
    assert code == 0, err
    assert "edm makes other images each time" in out + err, "no latents are kept"
    code, _, err = dmf_command("sample", "tiny", "--count", 2, "--npz", "o.npz")
    assert code == 0, err


def test_what_cannot_be_is_said_before_training(tiny: Path, dmf_command: Command) -> None:
    code, out, err = dmf_command("train", tiny, "augment=[flip, edm]", "train.steps=1", "name=both")
    assert code == 0 and "augment: flip mirrors images and does not tell the network" in out + err
    code, _, err = dmf_command("train", tiny, "augment=[edm, edm]")
    assert code == 2 and "augment: the condition `augmentation` is there already" in err
    code, _, err = dmf_command("train", tiny, "augment=[{name: crop, padding: 8}]")
    assert code == 2 and "write padding: 7 or less, or fill: zeros" in err
