"""What cannot be sampled is said before data are read or anything is trained."""

from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["sampler.steps=0"], "expected an integer of at least 1"),
        (["sampler={name: heun, steps: 2, grid: {name: explicit, values: [0.2, 0.8]}}"], "falls from noise to image"),
        (["sampler={name: heun, steps: 3, grid: {name: explicit, values: [0.8, 0.2]}}"], "set steps to 2"),
        (
            ["sampler={name: heun, steps: 1, grid: {name: explicit, values: [1e7], unit: sigma}}"],
            "the schedule has sigma from",
        ),
        (["schedule=linear", "sampler={name: heun, steps: 9, grid: {name: karras, sigma_max: 500}}"], "from 0.0100005"),
        (
            ["schedule={name: linear, steps: 50, high: 0.3}", "sampler={name: ddim, steps: 60, grid: leading}"],
            "at most 50",
        ),
        (["sampler={name: unipc, steps: 9, order: 5}"], "expected one of"),
        (["train.label_dropout=0", "sampler.guidance=2"], "also trained without labels"),
        (["sampler.guidance={name: interval, of: 3, sigma_min: 5, sigma_max: 1}"], "sigma_min"),
    ],
)
@pytest.mark.parametrize("verb", ["validate", "run", "train"])
def test_one_sentence_and_nothing_begun(
    dmf_command: Command, tiny: Path, verb: str, words: list[str], sentence: str
) -> None:
    code, out, err = dmf_command(verb, tiny, *words)
    assert code == 2 and sentence in err and "Traceback" not in err, err
    assert not (tiny.parent / "runs").exists() and not out
