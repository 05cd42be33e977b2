"""Every weighting, objective, density and loss space through the command line; what a wrong one is told."""

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dmf.core import DataSpec
from dmf.core.objectives import Attempt, Objective, l2
from dmf.registry import build, parts
from dmf.runner.assemble import Model
from dmf.runner.training.learner import Learner

Command = Callable[..., tuple[int, str, str]]
NAMES = {kind: [p.name for p in parts(kind)] for kind in ("weighting", "objective", "density", "prediction")}
LONGEST = max(map(len, NAMES.values()))


def losses(run: Path) -> list[float]:
    lines = [json.loads(line)["values"] for line in (run / "history.jsonl").read_text().splitlines()]
    assert all(values["bad_steps"] == 0 for values in lines)
    return [float(values["loss"]) for values in lines]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints/step-00000012/model.safetensors")


@pytest.mark.parametrize("i", range(LONGEST))
@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_each_trains(tiny: Path, dmf_command: Command, prediction: str, i: int) -> None:
    """The i-th of each kind together; the schedule reaches log SNR 20 and -20."""
    weighting, objective, density, space = (names[i % len(names)] for names in NAMES.values())
    words = [f"train.weighting={weighting}", f"train.objective={objective}", f"train.density={density}"]
    words += [f"train.loss_space={space}", "train.stratified=true", f"prediction={prediction}"]
    code, _, err = dmf_command("train", tiny, *words)
    assert code == 0, err
    found = losses(tiny.parent / "runs/tiny")
    assert len(found) == 6 and all(math.isfinite(loss) for loss in found)
    facts = json.loads((tiny.parent / "runs/tiny/facts.json").read_text())
    assert {f"part.weighting:{weighting}", f"part.prediction:{space}"} <= set(facts)


def test_each_choice_changes_what_is_trained(tiny: Path, dmf_command: Command) -> None:
    words = {
        "tiny": "seed=0",
        "weighted": "train.weighting=min_snr",
        "absolute": "train.objective=huber",
        "dense": "train.density=log_normal",
        "spaced": "train.loss_space=x0",
        "spread": "train.stratified=true",
    }
    for name, word in words.items():
        assert dmf_command("train", tiny, word, f"name={name}")[0] == 0
    first = [next(iter(weights(tiny.parent / "runs" / name).values())).flatten() for name in words]
    assert all(not torch.equal(a, b) for k, a in enumerate(first) for b in first[:k])


def test_the_networks_own_space_spelt_out_is_the_same_training(tiny: Path, dmf_command: Command) -> None:
    assert dmf_command("train", tiny)[0] == 0
    assert dmf_command("train", tiny, "train.loss_space=flow", "name=spelt")[0] == 0
    a, b = (weights(tiny.parent / "runs" / name) for name in ("tiny", "spelt"))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_stratified_training_goes_on_exactly(tiny: Path, dmf_command: Command) -> None:
    words = ["train.stratified=true", "train.loss_space=x0", "train.weighting=min_snr"]
    assert dmf_command("train", tiny, *words, "train.steps=7")[0] == 0
    assert dmf_command("train", tiny, *words)[0] == 0
    assert dmf_command("train", tiny, *words, "name=straight")[0] == 0
    a, b = (weights(tiny.parent / "runs" / name) for name in ("tiny", "straight"))
    assert all(torch.equal(a[k], b[k]) for k in a)


WRONG = [
    ("train.weighting={name: min_snr, gamma: 0}", "train.weighting.gamma: got 0, expected a number above 0"),
    ("train.weighting={name: sigmoid, bias: 30}", "train.weighting.bias: got 30, expected a number of at"),
    ("train.weighting={name: p2, gama: 1}", "did you mean 'gamma'?"),
    ("train.weighting=minsnr", "did you mean 'min_snr'?"),
    ("train.objective={name: huber, delta: -1}", "train.objective.delta: got -1, expected a number above 0"),
    ("train.density={name: log_normal, std: 0}", "train.density.std: got 0, expected a number above 0"),
    ("train.loss_space=noise", "train.loss_space: unknown prediction 'noise'"),
    ("train.stratified=3", "train.stratified: got 3, expected true or false"),
]


@pytest.mark.parametrize(("word", "sentence"), WRONG)
def test_a_wrong_one_is_told_so_in_a_line(tiny: Path, dmf_command: Command, word: str, sentence: str) -> None:
    code, _, err = dmf_command("train", tiny, word)
    assert code == 2 and sentence in err, err
    assert err.strip().count("\n") == 0 and "Traceback" not in err
    assert not (tiny.parent / "runs").exists()


# channels that no objective reads


def test_channels_that_are_not_trained_are_told_once(tiny: Path, dmf_command: Command) -> None:
    code, _, err = dmf_command("train", tiny, "backbone.learned_variance=true")
    assert code == 0
    said = "warning: the backbone gives 2 channels for images of 1, and the objective does not read 1 of them"
    assert err.count(said) == 1 and err.count("not trained") == 1
    assert said.removeprefix("warning: ") in (tiny.parent / "runs/tiny/log.txt").read_text()
    code, _, err = dmf_command("train", tiny, "name=plain")
    assert code == 0 and "not trained" not in err


def reads_all(attempt: Attempt) -> torch.Tensor:
    return l2(attempt) + attempt.extras.flatten(1).mean(1)


def reads_first(attempt: Attempt) -> torch.Tensor:
    return l2(attempt) + attempt.extras[:, :1].flatten(1).mean(1)


@pytest.mark.parametrize(("objective", "idle"), [(reads_all, 0), (reads_first, 2), (l2, 3)])
def test_an_objective_that_reads_extras_is_left_in_peace(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, objective: Objective, idle: int
) -> None:
    monkeypatch.setattr(logging.getLogger("dmf"), "propagate", True)
    spec = DataSpec((3, 8, 8))
    dit = build("backbone", "dit", spec, hidden=16, depth=1, heads=2, learned_variance=True)
    schedule, prediction = build("schedule", "flow"), build("prediction", "flow")
    learner = Learner(
        Model(dit, build("codec", "pixels", spec), schedule, prediction, spec), objective, build("weighting", "uniform")
    )
    x0, eps = torch.randn(2, 2, 3, 8, 8)
    level = schedule.at(torch.tensor([0.3, 0.6], dtype=torch.float64)).per_image(4)
    for _ in range(2):
        learner(x0, eps, level, {}).mean().backward()
    told = [record.getMessage() for record in caplog.records if "not trained" in record.getMessage()]
    assert len(told) == (idle > 0) and all(f"does not read {idle} of them" in one for one in told)
