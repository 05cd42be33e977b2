"""Images that are no numbers are refused, wherever they are made: as pixels nobody could tell them from others."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dmf.runner.generate import check_finite
from dmf.runner.world import LocalError

Command = Callable[..., tuple[int, str, str]]
TOO_MUCH = ("--guidance", "1e300")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_they_are_named(value: float) -> None:
    x = torch.zeros(12, 1, 2, 2)
    check_finite(x, torch.arange(12))
    x[3, 0, 1, 1] = value
    with pytest.raises(LocalError, match=r"1 of 12 images is not finite \(103\): a guidance scale that is too large"):
        check_finite(x, torch.arange(100, 112))
    x[:] = value
    with pytest.raises(LocalError, match=r"12 of 12 images are not finite \(0, 1, 2, 3, 4, 5, 6, 7, \.\.\.\): "):
        check_finite(x, torch.arange(12))


def test_no_picture_and_no_value_comes_of_them(tiny: Path, dmf_command: Command) -> None:
    assert dmf_command("train", tiny)[0] == 0
    code, _, err = dmf_command("sample", "tiny", "--count", 4, "--grid", "x.png", *TOO_MUCH)
    assert code == 2 and "4 of 4 images are not finite" in err and not Path("x.png").exists()
    words = ("evaluate", "tiny", "--metrics", "[{name: frechet, features: digits}]", "--images", 70)
    code, _, err = dmf_command(*words, *TOO_MUCH, "--json", "x.json")
    assert code == 2 and "images are not finite" in err and not Path("x.json").exists()


def test_a_sampler_that_fails_while_training_goes_on_costs_no_training(tiny: Path, dmf_command: Command) -> None:
    during = "evaluate={images: 70, metrics: [{name: frechet, features: digits}], during: {every: 96, images: 70}}"
    words = (tiny, "sampler.guidance=1e300", "preview={every: 6, per_class: 1}", during)
    code, out, err = dmf_command("train", *words)
    assert code == 0, out + err
    assert "no preview at step 6: sampler: " in out and "images are not finite" in out
    points = [json.loads(line) for line in Path("runs/tiny/evaluations.jsonl").read_text().splitlines()]
    assert points and all("images are not finite" in point["failed"] for point in points)
    assert not list(Path("runs/tiny/samples").glob("step-*"))
    code, _, err = dmf_command("run", *words)
    assert code == 2 and "images are not finite" in err and "Traceback" not in err
    assert list(Path("runs/tiny/checkpoints").glob("step-*"))
