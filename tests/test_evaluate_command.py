"""Scores of a run, with their protocol."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from data_kit import paint

from dmf.plugins.metrics.frechet import Frechet

Command = Callable[..., tuple[int, str, str]]
METRICS = "[{name: frechet, features: digits}, {name: kernel, features: digits, subsets: 5, subset_size: 50}]"


def test_a_run_is_scored_again_with_other_settings(tiny: Path, dmf_command: Command) -> None:
    dmf_command("train", tiny)
    words = ["evaluate", "tiny", "--images", 90, "--metrics", METRICS, "--json", "out.json"]
    assert dmf_command(*words, "--steps", 2)[0] == 0
    first = json.loads(Path("out.json").read_text())
    assert set(first) == {"frechet_digits", "kernel_digits", "kernel_digits_sd"}
    assert first["frechet_digits"]["protocol"]["steps"] == "2"
    assert first["frechet_digits"]["protocol"]["evaluations"] == "3"  # heun: 2, and 1 in the last step
    assert dmf_command(*words, "--sampler", "ddim")[0] == 0
    assert json.loads(Path("out.json").read_text())["frechet_digits"]["protocol"]["sampler"].startswith("ddim")


def test_the_batch_size_does_not_matter(tiny: Path, dmf_command: Command) -> None:
    dmf_command("train", tiny)
    values = []
    for size in (7, 90):
        dmf_command(
            "evaluate", "tiny", "--images", 90, "--metrics", METRICS, "--json", "out.json", "--batch-size", size
        )
        values.append(json.loads(Path("out.json").read_text())["frechet_digits"]["value"])
    assert values[0] == pytest.approx(values[1], rel=1e-3)  # an image may differ by 1/255


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing to score: the number of images is 0 and the list of metrics is empty; give"),
        (["--images", "90"], "nothing to score: the list of metrics is empty; give"),
        (["--images", "0", "--metrics", METRICS], "nothing to score: the number of images is 0; give"),
        (["--images", "90", "--metrics", "[{name: frechet, features: inception}]"], "inception"),
        (["--images", "90", "--metrics", "[frechet]"], "features"),
        (
            ["--images", "90", "--metrics", "[{name: kernel, features: digits}, {name: kernel, features: digits}]"],
            "two metrics",
        ),
    ],
)
def test_mistakes_get_one_message(tiny: Path, dmf_command: Command, words: list[str], said: str) -> None:
    dmf_command("train", tiny, "train.steps=1")
    code, _, err = dmf_command("evaluate", "tiny", *words)
    assert code == 2 and said in err and "Traceback" not in err, err


@pytest.mark.parametrize("name", ["kernel", "frechet"])
def test_a_reference_of_one_image_is_refused_before_the_training(tiny: Path, dmf_command: Command, name: str) -> None:
    paint(tiny.parent / "one/1.png")
    data = "dataset={name: image_folder, root: one, size: 8, channels: 1}"
    words = ["sampler.guidance=1", f"evaluate={{images: 70, metrics: [{{name: {name}, features: digits}}]}}"]
    code, _, err = dmf_command("run", tiny, data, *words)
    assert code == 2 and "Traceback" not in err, err
    assert f"{name} needs a reference of at least 2 images, and image_folder has 1" in err
    assert not list(tiny.parent.glob("runs/tiny/checkpoints/step*"))


def test_what_a_metric_cannot_compute_is_a_message_that_names_it(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Frechet) -> dict[str, float]:
        raise ValueError("these images are too much alike")

    monkeypatch.setattr(Frechet, "compute", refused)
    code, _, err = dmf_command("run", tiny, f"evaluate={{images: 70, metrics: {METRICS}}}")
    assert code == 2 and "Traceback" not in err, err
    assert "evaluate.metrics: frechet: these images are too much alike" in err and "checkpoints are kept" in err
    assert list(tiny.parent.glob("runs/tiny/checkpoints/step*"))
