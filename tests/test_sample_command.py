"""`dmf sample`: image k of seed s is the same, whatever is made beside it; labels; files; mistakes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with one small trained run, made once."""
    from conftest import TINY

    from dmf.runner.cli import main

    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    assert main(["train", str(folder / "tiny.yaml"), "--runs", str(folder / "runs")]) == 0
    return folder / "runs"


def images(command: Command, runs: Path, *words: object) -> np.ndarray:
    code, _, err = command("sample", "tiny", "--runs", runs, "--npz", "out.npz", *words)
    assert code == 0, err
    with np.load("out.npz") as arrays:
        found: np.ndarray = arrays["arr_0"].astype(int)
        return found


@pytest.mark.parametrize("sampler", ["heun", "ddim", "ddpm", "euler", "euler_ancestral", "dpmpp_sde", "rk45"])
def test_an_image_does_not_depend_on_the_batch_size(
    runs: Path, workdir: Path, dmf_command: Command, sampler: str
) -> None:
    words = ["--count", 7, "--seed", 3, "--sampler", sampler, "--steps", 4]
    whole = images(dmf_command, runs, *words)
    for size in (1, 3):
        assert np.abs(images(dmf_command, runs, *words, "--batch-size", size) - whole).max() <= 1


@pytest.mark.parametrize(("sampler", "evaluations"), [("ddim", 4), ("heun", 7), ("dpmpp_sde", 7)])
def test_the_network_evaluations_are_said(
    runs: Path, workdir: Path, dmf_command: Command, sampler: str, evaluations: int
) -> None:
    words = ["--count", 3, "--batch-size", 2, "--sampler", sampler, "--steps", 4, "--grid", "a.png"]
    code, out, err = dmf_command("sample", "tiny", "--runs", runs, *words)
    assert code == 0 and out.endswith(f"\n3 images, {evaluations} network evaluations each: a.png\n"), err


def test_noise_is_equal_bit_for_bit() -> None:
    from dmf.core import ImageStreams

    whole = ImageStreams(5, range(6), (3, 4, 4))
    parts = [ImageStreams(5, [k], (3, 4, 4)) for k in range(6)]
    for _ in range(3):
        assert torch.equal(whole.randn(), torch.cat([p.randn() for p in parts]))


def test_another_seed_other_images(runs: Path, workdir: Path, dmf_command: Command) -> None:
    a, b = (images(dmf_command, runs, "--count", 4, "--seed", seed) for seed in (0, 1))
    assert not np.array_equal(a, b)


def test_raw_and_averaged_weights_differ(runs: Path, workdir: Path, dmf_command: Command) -> None:
    raw, ema = (images(dmf_command, runs, "--count", 4, "--weights", w) for w in ("raw", "ema"))
    assert not np.array_equal(raw, ema)


def test_any_value_of_the_recipe_can_be_changed(runs: Path, workdir: Path, dmf_command: Command) -> None:
    ddim = ["--count", 4, "--sampler", "ddim", "--steps", 4]
    plain = images(dmf_command, runs, *ddim)
    for word in ("sampler.eta=1", "sampler.grid=karras"):
        assert (images(dmf_command, runs, *ddim, word) != plain).any()


def test_guidance_changes_the_images_and_one_is_none(runs: Path, workdir: Path, dmf_command: Command) -> None:
    none, strong = (images(dmf_command, runs, "--count", 4, "--guidance", w) for w in (1, 4))
    assert not np.array_equal(none, strong)


def test_labels_go_round_and_names_count(runs: Path, workdir: Path, dmf_command: Command) -> None:
    images(dmf_command, runs, "--count", 5, "--labels", "0,1,2")
    with np.load("out.npz") as arrays:
        assert arrays["arr_1"].tolist() == [0, 1, 2, 0, 1]
    images(dmf_command, runs, "--count", 12)
    with np.load("out.npz") as arrays:
        assert arrays["arr_1"].tolist() == [*range(10), 0, 1]


def test_nine_fives_make_a_square(runs: Path, workdir: Path, dmf_command: Command) -> None:
    assert dmf_command("sample", "tiny", "--runs", runs, "--count", 9, "--labels", 5, "--grid", "fives.png")[0] == 0
    with Image.open("fives.png") as image:
        assert abs(image.width - image.height) < 40


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--labels", "10"], "indices 0 to 9"),
        (["--labels", "-1"], "indices 0 to 9"),
        (["--labels", "five"], "no class"),
        (["--sampler", "huen"], "did you mean 'heun'"),
        (["--steps", "0"], "sampler.steps"),
        (["--steps", "many"], "sampler.steps"),
        (["--seed", "-4"], "sample.seed"),
        (["--guidance", "x"], "guidance"),
        (["--npz", "nowhere/out.npz"], "folder"),
        (["--grid", "picture.foo"], "picture.png"),
    ],
)
def test_mistakes_get_one_message(runs: Path, workdir: Path, dmf_command: Command, words: list[str], said: str) -> None:
    code, out, err = dmf_command("sample", "tiny", "--runs", runs, "--count", 2, *[w for w in words])
    assert code == 2
    assert said in err and "Traceback" not in err and out == ""


def test_a_run_that_is_not_there_names_those_that_are(runs: Path, workdir: Path, dmf_command: Command) -> None:
    code, _, err = dmf_command("sample", "tinny", "--runs", runs)
    assert code == 2 and "did you mean 'tiny'" in err


def test_no_checkpoint_says_train_first(runs: Path, workdir: Path, dmf_command: Command) -> None:
    for name in ("recipe.yaml", "spec.json"):
        (workdir / "bare").mkdir(exist_ok=True)
        (workdir / "bare" / name).write_text((runs / "tiny" / name).read_text())
    code, _, err = dmf_command("sample", "bare")
    assert code == 2 and "train first" in err
