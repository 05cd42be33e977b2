"""`dmf encode`, `dmf likelihood`, `dmf sample --from / --mask / --noise`: files in and out, and mistakes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

Command = Callable[..., tuple[int, str, str]]
DIGITS = np.round(load_digits().images[:4] / 16 * 255).astype(np.uint8)  # 0, 1, 2, 3


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small trained runs, made once: with labels dropped at times, and never."""
    from conftest import TINY

    from dmf.runner.cli import main

    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    small = ["name=always", "train.label_dropout=0", "sampler.guidance=1", "train.steps=2"]
    for words in (["train.steps=60", "train.lr=5e-3"], small):
        assert main(["train", str(folder / "tiny.yaml"), *words, "--runs", str(folder / "runs")]) == 0
    return folder / "runs"


@pytest.fixture
def files(workdir: Path) -> Path:
    """Four digits, and masks: the lower half, the right half, nothing; and what is no use."""
    for k, digit in enumerate(DIGITS):
        Image.fromarray(digit).save(f"{k}.png")
    lower, right = np.zeros((2, 8, 8), np.uint8)
    lower[4:], right[:, 4:] = 255, 255
    for name, pixels in (("lower", lower), ("right", right), ("black", 0 * lower), ("white", 0 * lower + 255)):
        Image.fromarray(pixels).save(f"{name}.png")
    Image.fromarray(np.zeros((9, 8), np.uint8)).save("large.png")
    Image.fromarray(np.zeros((8, 8), np.float32)).save("deep.tiff")
    Path("text.png").write_text("no picture")
    return workdir


def made(command: Command, runs: Path, *words: object, run: str = "tiny") -> np.ndarray:
    code, _, err = command("sample", run, "--runs", runs, "--npz", "out.npz", *words)
    assert code == 0, err
    with np.load("out.npz") as arrays:
        found: np.ndarray = arrays["arr_0"][..., 0].astype(int)
        return found


def labels() -> list[int]:
    with np.load("out.npz") as arrays:
        found: list[int] = arrays["arr_1"].tolist()
        return found


# encode and back


@pytest.mark.parametrize("shown", [[], ["--labels", "0,1,2,3"]])
def test_encoded_images_come_back(runs: Path, files: Path, dmf_command: Command, shown: list[str]) -> None:
    words = ["0.png", "1.png", "2.png", "3.png", "--out", "n.safetensors", "--batch-size", 3]
    code, out, err = dmf_command("encode", "tiny", "--runs", runs, *words, *shown)
    assert code == 0 and "network evaluations each" in out, err
    back = made(dmf_command, runs, "--noise", "n.safetensors")
    assert np.abs(back - DIGITS).max() <= 1
    assert labels() == ([0, 1, 2, 3] if shown else [10] * 4)


def test_another_label_makes_another_image_of_the_noise(runs: Path, files: Path, dmf_command: Command) -> None:
    out = ["--out", "n.safetensors"]
    assert dmf_command("encode", "tiny", "--runs", runs, "1.png", "2.png", "--labels", "1,2", *out)[0] == 0
    same, other = (made(dmf_command, runs, "--noise", "n.safetensors", *w) for w in ([], ["--labels", "7"]))
    assert labels() == [7, 7] and np.abs(same - other).max() > 0
    again = made(dmf_command, runs, "--noise", "n.safetensors", "--count", 3)
    assert np.abs(again[:2] - same).max() <= 1 and np.abs(again[2] - same[0]).max() <= 1


def test_another_sampler_keeps_the_grid_and_comes_near(runs: Path, files: Path, dmf_command: Command) -> None:
    heun = ["--sampler", "heun", "--steps", 30, "--out", "n.safetensors"]
    assert dmf_command("encode", "tiny", "--runs", runs, "3.png", "--labels", 3, *heun)[0] == 0
    for words in ([], ["--sampler", "dpmpp_2m"]):
        assert np.abs(made(dmf_command, runs, "--noise", "n.safetensors", *words) - DIGITS[3:]).max() < 12


def test_the_grid_of_an_adaptive_sampler_is_for_no_other(runs: Path, files: Path, dmf_command: Command) -> None:
    assert dmf_command("encode", "tiny", "--runs", runs, "3.png", "--labels", 3, "--out", "n.safetensors")[0] == 0
    words = ["sample", "tiny", "--runs", runs, "--noise", "n.safetensors", "--grid", "a.png", "--sampler", "heun"]
    code, _, err = dmf_command(*words)
    assert code == 2 and "is that of rk45, which makes its own steps; give --steps too" in err
    assert dmf_command(*words, "--steps", 30)[0] == 0


def test_noise_of_other_weights_or_another_start_is_told(runs: Path, files: Path, dmf_command: Command) -> None:
    assert dmf_command("encode", "tiny", "--runs", runs, "3.png", "--labels", 3, "--out", "n.safetensors")[0] == 0
    _, _, err = dmf_command("sample", "always", "--runs", runs, "--noise", "n.safetensors", "--grid", "a.png")
    assert "made after 60 steps of tiny, and these are 2" in err
    path = runs / "tiny"
    code, _, err = dmf_command("sample", path, "--noise", "n.safetensors", "--grid", "a.png", "--sampler", "unknown")
    assert code == 2


# image-to-image and inpainting


def test_strength_says_how_much_is_new(runs: Path, files: Path, dmf_command: Command) -> None:
    given = ["--from", "0.png", "1.png", "2.png", "3.png"]
    away = [np.abs(made(dmf_command, runs, *given, "--strength", s) - DIGITS).mean() for s in (0.02, 0.4, 1)]
    assert away[0] < 6 < away[1] < away[2]
    assert labels() == [10] * 4


def test_pictures_and_labels_go_round(runs: Path, files: Path, dmf_command: Command) -> None:
    got = made(dmf_command, runs, "--from", "0.png", "1.png", "--strength", 0.01, "--count", 5, "--labels", "0,1,8")
    assert np.abs(got - DIGITS[[0, 1, 0, 1, 0]]).mean() < 4
    assert labels() == [0, 1, 8, 0, 1]


@pytest.mark.parametrize("sampler", ["heun", "ddpm", "dpmpp_2m", "rk45", "adams"])
@pytest.mark.parametrize("more", [[], ["--repeats", 2], ["--strength", 0.5]], ids=["plain", "repeats", "strength"])
def test_what_the_mask_keeps_is_kept(
    runs: Path, files: Path, dmf_command: Command, sampler: str, more: list[object]
) -> None:
    words = ["--from", "0.png", "1.png", "--mask", "lower.png", "right.png", "--sampler", sampler, *more]
    got = made(dmf_command, runs, *words, "--count", 4)
    assert np.array_equal(got[[0, 2], :4], DIGITS[[0, 0], :4]) and np.array_equal(
        got[[1, 3], :, :4], DIGITS[[1, 1], :, :4]
    )
    assert not np.array_equal(got[0, 4:], DIGITS[0, 4:]) and not np.array_equal(got[0], got[2])


def test_an_image_does_not_depend_on_the_batch_size(runs: Path, files: Path, dmf_command: Command) -> None:
    words = ["--from", "0.png", "1.png", "--mask", "lower.png", "--repeats", 2, "--count", 5, "--sampler", "ddpm"]
    whole, parted = (made(dmf_command, runs, *words, "--batch-size", n) for n in (5, 2))
    assert np.abs(whole - parted).max() <= 1


def test_none_is_a_label(runs: Path, files: Path, dmf_command: Command) -> None:
    made(dmf_command, runs, "--labels", "3,none", "--count", 4)
    assert labels() == [3, 10, 3, 10]
    assert dmf_command("sample", "tiny", "--runs", runs, "--labels", "3,none", "--grid", "a.png")[0] == 0


@pytest.mark.parametrize(
    ("mode", "exact"), [("L", True), ("RGB", True), ("P", False), ("1", False), ("LA", True), ("RGBA", True)]
)
def test_pictures_of_other_kinds_are_converted(files: Path, mode: str, exact: bool) -> None:
    from dmf.core import DataSpec
    from dmf.runner.picture_files import read_images

    Image.fromarray(DIGITS[3]).convert(mode).save("other.png")
    for channels in (1, 3):
        got = read_images([Path("other.png")], DataSpec((channels, 8, 8)))
        assert got.shape == (1, channels, 8, 8)
        assert not exact or np.array_equal(got[0, 0].numpy(), DIGITS[3])
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save("clear.png")
    assert (read_images([Path("clear.png")], DataSpec((3, 8, 8))) == 255).all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from", "nowhere.png"], "no such file"),
        (["--from", "text.png"], "text.png cannot be read as a picture"),
        (["--from", "large.png"], "8 x 9 pixels (width x height), this run's images are 8 x 8"),
        (["--from", "deep.tiff"], "deep.tiff has pixels of the kind F, whose range is not known"),
        (["--from", "0.png", "--mask", "large.png"], "large.png is 8 x 9"),
        (["--from", "0.png", "--mask", "black.png"], "nothing would be made anew"),
        (["--from", "0.png", "--mask", "white.png"], "nothing would be kept"),
        (["--from", "0.png", "--strength", "0.00001"], "less noise than the schedule's least"),
        (["--mask", "lower.png"], "--from IMAGE"),
        (["--strength", "0.5"], "--from IMAGE"),
        (["--from", "0.png", "--repeats", "2"], "--mask"),
        (["--from", "0.png", "--noise", "n.safetensors"], "one of them"),
        (["--noise", "nowhere.safetensors"], "dmf encode"),
        (["--noise", "0.png"], "not written by dmf encode"),
        (["--from", "0.png", "--labels", "11"], "0 to 9"),
    ],
)
def test_mistakes_get_one_message(runs: Path, files: Path, dmf_command: Command, words: list[str], said: str) -> None:
    code, out, err = dmf_command("sample", "tiny", "--runs", runs, *words, "--grid", "out.png")
    assert code == 2 and said in err and "Traceback" not in err and out == "", err


@pytest.mark.parametrize("strength", ["0", "-1", "1.5", "nan", "much"])
def test_a_strength_out_of_range_is_refused(runs: Path, files: Path, strength: str) -> None:
    from dmf.runner.cli import main

    with pytest.raises(SystemExit) as stop:
        main(["sample", "tiny", "--runs", str(runs), "--from", "0.png", "--strength", strength])
    assert stop.value.code == 2


def test_noise_of_another_shape_is_refused_before_anything_is_loaded(
    runs: Path, files: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    assert dmf_command("encode", "tiny", "--runs", runs, "3.png", "--out", "n.safetensors")[0] == 0
    with safe_open("n.safetensors", "pt") as opened:
        notes = opened.metadata()
    tensors = load_file("n.safetensors")
    save_file({**tensors, "x": tensors["x"].repeat(1, 3, 1, 1)}, "colour.safetensors", notes)
    monkeypatch.setattr(
        "dmf.runner.evaluation.trained.load_trained", lambda *given: pytest.fail("a network was loaded")
    )
    code, _, err = dmf_command("sample", "tiny", "--runs", runs, "--noise", "colour.safetensors")
    assert code == 2 and "holds noise of 3 x 8 x 8, and this run makes 1 x 8 x 8" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sampler", "ddpm"], "draws random numbers"),
        (["--sampler", "heun", "--steps", "1"], "at least two steps"),
        (["--out", "n.png"], "n.safetensors"),
        (["--labels", "17"], "0 to 9"),
    ],
)
def test_encoding_mistakes(runs: Path, files: Path, dmf_command: Command, words: list[str], said: str) -> None:
    code, _, err = dmf_command("encode", "tiny", "--runs", runs, "3.png", "--out", "n.safetensors", *words)
    assert code == 2 and said in err and not Path("n.safetensors").exists()


def test_a_network_that_never_saw_an_image_without_a_class_wants_one(
    runs: Path, files: Path, dmf_command: Command
) -> None:
    for words in (["encode", "always", "3.png", "--out", "n.safetensors"], ["sample", "always", "--from", "3.png"]):
        code, _, err = dmf_command(*words, "--runs", runs)
        assert code == 2 and "--labels" in err
    assert dmf_command("sample", "always", "--from", "3.png", "--labels", 3, "--grid", "a.png", "--runs", runs)[0] == 0


# likelihood


def bits(command: Command, runs: Path, *words: object) -> dict[str, object]:
    code, out, err = command("likelihood", "tiny", "--runs", runs, "--steps", 6, "--json", "bits.json", *words)
    assert code == 0 and "bits/dim" in out, err
    found: dict[str, object] = json.loads(Path("bits.json").read_text())
    return found


def test_likelihood_is_written_with_its_protocol(runs: Path, workdir: Path, dmf_command: Command) -> None:
    found = bits(dmf_command, runs, "--images", 6, "--probes", 2, "--draws", 2)
    value = found["bits_per_dim"]
    assert isinstance(value, dict) and isinstance(found["images"], list)
    each = [one["bits_per_dim"] for one in found["images"]]
    assert len({one["image"] for one in found["images"]}) == 6
    assert value["value"] == pytest.approx(np.mean(each)) and value["error"] == pytest.approx(
        np.std(each, ddof=1) / 6**0.5
    )
    assert "held-out images of digits" in value["protocol"]["held_out"] and value["protocol"]["evaluations"] == "48"
    assert value["protocol"]["given"] == "class"


def test_an_images_likelihood_is_its_own(runs: Path, workdir: Path, dmf_command: Command) -> None:
    few, many = (bits(dmf_command, runs, "--images", n, "--batch-size", b)["images"] for n, b in ((3, 2), (5, 5)))
    assert isinstance(few, list) and isinstance(many, list)
    for one, other in zip(few, many, strict=False):
        assert one["image"] == other["image"]
        assert one["bits_per_dim"] == pytest.approx(other["bits_per_dim"], abs=1e-4)


def test_other_images_and_the_exact_trace(runs: Path, workdir: Path, dmf_command: Command) -> None:
    train = bits(dmf_command, runs, "--images", 2, "--split", "train", "--probes", 0)
    other = bits(dmf_command, runs, "--images", 2, "--split", "train", "--probes", 0, "--seed", 5)
    assert train["images"] != other["images"]
    assert train["bits_per_dim"]["protocol"]["trace"] == "exact trace"  # type: ignore[index]


def test_likelihood_mistakes(runs: Path, workdir: Path, dmf_command: Command) -> None:
    code, _, err = dmf_command("likelihood", "tiny", "--runs", runs, "--json", "nowhere/a.json")
    assert code == 2 and "folder" in err
    code, _, err = dmf_command("likelihood", "tinny", "--runs", runs)
    assert code == 2 and "did you mean 'tiny'" in err
