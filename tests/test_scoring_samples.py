"""Samples of a run, scored while they are made: their conditions, the images they belong to, seeds, ranks."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from fork_kit import on_ranks
from scoring_kit import ALONE, Everything
from torch import Tensor

from dmf import __version__
from dmf.core import Dataset, Level, Metric, Pixels, ScoredModel, predictions
from dmf.core.predictions import Coefficients
from dmf.plugins.schedules.cosine import Cosine
from dmf.registry import Recipe, UserError, read
from dmf.runner.assemble import build_dataset, build_model
from dmf.runner.evaluation import Evaluation, Named, Scoring, Trained
from dmf.runner.evaluation.protocol import of_model
from dmf.runner.evaluation.streams import Generated, Real
from dmf.runner.evaluation.trained import load_trained
from dmf.runner.feed import source_of
from dmf.runner.folder import RunFolder
from dmf.runner.weights import find_weights
from dmf.runner.world import World

Command = Callable[..., tuple[int, str, str]]


class Calls(Metric):
    """Keeps what it is given."""

    def __init__(self, *needs: Any) -> None:
        super().__init__()
        self.needs = frozenset(needs)  # type: ignore[misc]
        self.calls: list[dict[str, Any]] = []

    def update(self, images: Tensor, **given: Any) -> None:
        self.calls.append({"images": images, **given})

    def compute(self) -> dict[str, float]:
        return {"calls": float(len(self.calls))}


@pytest.fixture
def folder(tiny: Path, dmf_command: Command) -> Path:
    """A run that has trained a little."""
    assert dmf_command("train", tiny, "train.steps=2")[0] == 0
    return tiny.parent / "runs/tiny"


def parts(folder: Path, images: int = 20) -> tuple[Recipe, Dataset, Trained]:
    recipe = read(folder / "recipe.yaml", [f"evaluate.images={images}", "evaluate.batch_size=8"])
    dataset = build_dataset(recipe, ALONE)
    return (
        recipe,
        dataset,
        load_trained(build_model(recipe, dataset.spec), RunFolder(folder), find_weights(RunFolder(folder), "ema")),
    )


def test_the_protocol_has_the_codec_the_code_and_the_arithmetic(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pixels, "facts", lambda self: {"weights": "abc"})
    monkeypatch.setattr(Calls, "libraries", ("numpy",))
    protocol = scoring(folder, Calls()).results["calls"]["protocol"]
    assert protocol["codec.weights"] == "abc"
    own = {"dmf": __version__, "version.torch": torch.__version__, "version.numpy": numpy.__version__}
    assert {key: protocol[key] for key in (*own, "arithmetic")} == {**own, "arithmetic": "float32"}
    dataset = parts(folder)[1]
    made = Real(dataset, source_of(dataset, ALONE.device), "digits")
    of_set = Scoring([Named("m", Calls())], ALONE, 64).score(made).results["calls"]["protocol"]
    assert {key: of_set[key] for key in (*own, "arithmetic")} == {**own, "arithmetic": "float32"}


def test_a_plugins_version_is_in_the_protocol_whatever_part_of_the_network_it_is(folder: Path) -> None:
    class Own(Cosine):
        pass

    def also_own(level: Level, sigma_data: float) -> Coefficients:
        return predictions.v(level, sigma_data)

    trained, here = parts(folder)[2], f"version.{__name__}"
    assert here not in of_model(trained)
    for changed in ({"schedule": Own()}, {"prediction": also_own}):
        told = of_model(replace(trained, model=replace(trained.model, **changed)))
        assert len(told[here]) == 16, "the digest of this file"


def test_a_library_that_is_not_there_is_told_before_the_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Calls, "libraries", ("no-such-library",))
    metric = Calls()
    with pytest.raises(UserError, match="m: no distribution 'no-such-library' is installed"):
        scoring(folder, metric)
    assert metric.calls == []


def scoring(folder: Path, metric: Metric, world: World = ALONE, images: int = 20) -> Any:
    recipe, dataset, trained = parts(folder, images)
    source = source_of(dataset, world.device)
    made = Generated(recipe, dataset, source, trained, None)
    against = Real(dataset, source, "digits")
    return Scoring([Named("m", metric)], world, 8, reference=against).score(made, model=trained)


def test_samples_have_the_labels_of_real_images_which_are_their_pairs(folder: Path) -> None:
    metric = Calls("pairs")
    scoring(folder, metric)
    _, dataset, _ = parts(folder)
    held = dataset.tensors()
    assert held is not None
    pixels, cond = held
    for call in metric.calls:
        for image, label in zip(call["paired"], call["labels"], strict=True):
            same = (pixels == image).flatten(1).all(1)
            assert int(label) in cond["class"][same].tolist()
    numbers = [int(n) for call in metric.calls for n in call["index"]]
    assert numbers == list(range(20)) and [len(call["images"]) for call in metric.calls] == [8, 8, 4]


def test_a_metric_that_asks_for_the_model_gets_it_with_the_reference_too(folder: Path) -> None:
    metric = Calls("model", "reference")
    scoring(folder, metric)
    assert {call["real"] for call in metric.calls} == {True, False}
    for call in metric.calls:
        assert isinstance(call["model"], ScoredModel) and not call["images"].is_inference()


def test_the_protocol_says_how_they_were_made(folder: Path) -> None:
    found = scoring(folder, Everything()).results["n"]["protocol"]
    assert found["labels"] == "real distribution of digits" and found["evaluations"] == "5"  # heun, 3 steps
    assert found["labels.fingerprint"] == parts(folder)[1].fingerprint(), "folders of other pictures have one name"
    assert found["generated.shape"] == "1 x 8 x 8"
    want = {"images": "20", "sampler": "heun", "steps": "3", "grid": "", "guidance": "cfg(scale=2.0)", "weights": "ema"}
    want |= {"trained_steps": "2", "seed": "1", "arithmetic": "float32", "guidance.reference": "no labels"}
    assert all(found[name].startswith(value) for name, value in want.items()), found
    assert "reference" not in found  # it does not look at one


def test_other_seeds_and_samplers_are_scored_by_the_same_evaluation(folder: Path) -> None:
    recipe, dataset, trained = parts(folder)
    recipe = read(folder / "recipe.yaml", ["evaluate.metrics=[{name: kernel, features: digits}]", "evaluate.images=20"])
    evaluation = Evaluation(recipe, dataset, ALONE)
    one = evaluation.run(trained, None).results["kernel_digits"]
    seeded = replace(recipe, evaluate=replace(recipe.evaluate, seed=5))
    other = evaluation.run(trained, None, recipe=seeded).results["kernel_digits"]
    assert other["value"] != one["value"] and other["protocol"]["seed"] == "5"
    assert other["held_out"] == one["held_out"] and one["held_out"]["images"] == 300
    assert evaluation.run(trained, None).results["kernel_digits"] == one


def test_held_out_images_are_there_for_a_metric_though_none_stand_beside(folder: Path) -> None:
    _, dataset, _ = parts(folder)
    words = [
        "evaluate.metrics=[{name: bits_per_dim, images: 3, steps: 2}]",
        "evaluate.images=5",
        "evaluate.held_out=false",
    ]
    recipe = read(folder / "recipe.yaml", words)
    evaluation = Evaluation(recipe, dataset, ALONE)
    found = evaluation.run(parts(folder)[2], None).results["bits_per_dim"]
    assert found["protocol"]["images"] == "3" and "sampler" not in found["protocol"]
    assert found["protocol"]["weights"] == "ema" and "held_out" not in found
    dataset.held_out = lambda: None  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"evaluate.metrics: bits_per_dim needs held-out images, and there are none"):
        Evaluation(recipe, dataset, ALONE)


def score_on(world: World, folder: Path, want: dict[str, Any]) -> None:
    for images, results in want.items():
        found = scoring(folder, Everything(), world, int(images)).results
        assert found == results, (world.rank, found, results)


def test_samples_are_the_same_to_the_last_bit_on_three_ranks_of_which_one_may_have_none(folder: Path) -> None:
    want = {str(images): scoring(folder, Everything(), images=images).results for images in (30, 2)}
    assert want["30"]["n"]["value"] == 30 and want["2"]["n"]["value"] == 2
    on_ranks(3, score_on, folder, want)


def test_everything_is_there_after_inference(folder: Path) -> None:
    recipe, dataset, trained = parts(folder)
    made = Generated(recipe, dataset, source_of(dataset, torch.device("cpu")), trained, None)
    for shown in made.batches(ALONE, 8):
        shown.images.add_(0)  # no inference tensor: those cannot be written into
