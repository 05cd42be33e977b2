"""Every recipe that comes with the package is valid, says what to expect of it, and trains.

Each trains two steps, on the real data where DMF_TEST_DATA has it, else on pictures of noise of the same size; what is
too large for a test is made smaller, always or where DMF_FULL does not ask for full counts.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from conftest import FULL
from data_kit import paint
from stand_ins_kit import stand_ins_fixture as stand_ins_fixture

from dmf.registry import read
from dmf.registry.shipped import headline, shipped, text

Command = Callable[..., tuple[int, str, str]]
DATA = os.environ.get("DMF_TEST_DATA")
FOLDERS = {"cifar10": "cifar-10-batches-py", "fashion_mnist": "FashionMNIST", "mnist": "MNIST"}
SHAPES = {"cifar10": (3, 32), "fashion_mnist": (1, 28), "mnist": (1, 28), "flowers102": (3, 64)}
STAND_INS = ("celeba", "cifar100")  # a few images in files of the real format
PHOTOGRAPHS = ("anime_faces_unet", "flowers_dit")  # take flowers5_128, a folder a class, where it is
NAMES = [
    *(f"{data}_{net}" for data in ("digits", "mnist", "fashion_mnist", "cifar10") for net in ("dim", "dit", "unet")),
    "mnist_context_unet",
    "cifar10_edm_unet",
    "cifar100_dit",
    "celeba64_unet",
    "anime_faces_unet",
    "flowers_dit",
    "imagenet64_adm_unet",
    "imagenet256_dit_b2",
    "imagenet256_dit_xl2",
]
# their weights, averages and moments would be gigabytes in a checkpoint
SMALLER: Mapping[str, Sequence[str]] = {
    "anime_faces_unet": ["backbone.base=16", "backbone.head_channels=16", "backbone.groups=16"],
    "celeba64_unet": ["backbone.base=32"],
    "cifar10_edm_unet": ["backbone.base=32"],
    "imagenet64_adm_unet": ["backbone.base=32", "backbone.head_channels=32", "backbone.blocks=1"],
    "imagenet256_dit_b2": ["backbone.depth=1"],
    "imagenet256_dit_xl2": ["backbone.depth=1", "backbone.hidden=288"],
}
# these take their time
SMALLER_IN_SMALL_COUNTS: Mapping[str, Sequence[str]] = {
    "cifar10_dim": ["backbone.depth=5", "backbone.hidden=128"],
    "cifar10_dit": ["backbone.depth=2"],
    "cifar10_unet": ["backbone.base=32"],
    "cifar100_dit": ["backbone.depth=2"],
    "digits_dim": ["backbone.depth=2"],
    "flowers_dit": ["backbone.depth=2"],
}


FIGURE = r"(\d[\d.,]*|an?|half|some|two|three|four|five|six|ten|twenty|thirty)"
MACHINE = r"[Tt]rain|\b(GPUs?|CPU|H100s?|FLOP|G?FLOP/s|TFLOP/s|laptop|cores?)\b"


def comment(name: str) -> list[str]:
    """The lines before the first key."""
    return [line.lstrip("# ") for line in re.match(r"(#.*\n)+", text(name))[0].splitlines()]  # type: ignore[index]


def head(name: str) -> str:
    """They as one line."""
    return " ".join(comment(name))


def test_these_are_shipped() -> None:
    assert shipped() == sorted(NAMES)


@pytest.mark.parametrize("name", shipped())
def test_it_is_valid_and_says_what_it_is(name: str) -> None:
    assert read(name).name.replace("-", "_") == name
    assert 20 < len(headline(name)) <= 120 and headline(name).endswith(".")  # a line of `dmf recipes`


@pytest.mark.parametrize("name", shipped())
def test_its_head_says_size_machine_time_and_what_to_expect(name: str) -> None:
    said = head(name)
    assert re.search(r"[\d.]+ M parameters", said)
    assert re.search(r"\b(GPUs?|CPU|H100)\b", said)
    assert "What to expect: " in said
    # a figure, and on the line that tells of the training or of its machine; a bound such as "under an hour" is none
    time = re.compile(rf"\b(?<!under ){FIGURE} (minutes?|hours?|days)\b")
    assert any(time.search(line) and re.search(MACHINE, line) for line in comment(name))


@pytest.mark.parametrize("name", [name for name in shipped() if re.search(r"\bFor (a |many )?GPUs?\.", headline(name))])
def test_on_a_cpu_a_gpus_recipe_does_not_begin_with_a_preview(name: str) -> None:
    """A sheet of samples at step 0 takes a CPU minutes, before the few steps that show that all is well."""
    preview = read(name).preview
    assert preview.start > 0 and preview.start % preview.every == 0


@pytest.mark.parametrize("name", shipped())
def test_its_lines_are_read_without_scrolling(name: str) -> None:
    assert [line for line in text(name).splitlines() if len(line) > 120] == []


@pytest.mark.parametrize("name", shipped())
def test_a_recipe_spells_itself_out(name: str) -> None:
    """But for FashionMNIST's, which are MNIST's with another name and data."""
    import yaml

    written = yaml.safe_load(text(name))
    if name.startswith("fashion_"):
        assert set(written) == {"extends", "name", "dataset"} and written["extends"] == name.removeprefix("fashion_")
    else:
        assert "extends" not in written


def test_recipes_are_listed_shown_and_copied(workdir: Path, dmf_command: Command) -> None:
    assert all(name in dmf_command("recipes")[1] for name in shipped())
    assert dmf_command("recipes", "show", "digits_dit")[1] == text("digits_dit")
    assert dmf_command("recipes", "copy", "digits_dit")[0] == 0
    assert dmf_command("validate", "digits_dit.yaml", "name=mine")[0] == 0
    code, _, err = dmf_command("recipes", "copy", "digits_dit")
    assert code == 2 and "exists" in err
    code, _, err = dmf_command("recipes", "show", "digit_dit")
    assert code == 2 and "digits_dit" in err


@pytest.mark.parametrize("name", [name for name in shipped() if name.startswith(("c", "mnist", "fashion"))])
def test_without_data_and_network_the_message_says_where_files_go(
    name: str, workdir: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DMF_DATA", raising=False)
    code, _, err = dmf_command("run", name, "dataset.download=false")
    assert code == 2
    title = {
        "cifar10": "CIFAR-10 ",
        "cifar100": "CIFAR-100 ",
        "celeba64": "CelebA ",
        "mnist": "MNIST ",
        "fashion": "FashionMNIST ",
    }
    assert title[name.partition("_")[0]] in err
    assert "data" in err and "Traceback" not in err


# training


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(4):
        paint(folder / "ab"[i % 2] / f"{i}.png", 300, 260, seed=i)
    return folder


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of a few weights, of latent diffusion's shape: 4 x 32 x 32 of 3 x 256 x 256."""
    diffusers = pytest.importorskip("diffusers")
    folder = tmp_path_factory.mktemp("autoencoder")
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    diffusers.AutoencoderKL(block_out_channels=(4,) * 4, norm_num_groups=2, latent_channels=4, **kinds).save_pretrained(
        folder
    )
    return folder


def data_of(recipe: str, name: str, pictures: Path) -> list[str]:
    """What makes a recipe find its data, or pictures in its place."""
    if name == "digits" or name in STAND_INS:
        return []
    if DATA and name in FOLDERS and (Path(DATA) / FOLDERS[name]).is_dir():
        return [f"dataset.root={DATA}"]
    if DATA and recipe in PHOTOGRAPHS and (Path(DATA) / "flowers5_128").is_dir():
        pictures = Path(DATA) / "flowers5_128"
    if name == "image_folder":
        return [f"dataset.root={pictures}"]
    channels, size = SHAPES[name]
    return [f"dataset={{name: image_folder, root: {pictures}, size: {size}, channels: {channels}}}"]


def test_own_pictures_without_classes_train_by_the_words_in_the_head(
    workdir: Path, dmf_command: Command, tmp_path: Path
) -> None:
    paint(tmp_path / "flat" / "one.png", 80, 70, seed=0)
    words = re.findall(r"(?:dataset|sampler)\.\w+=\w+", head("flowers_dit"))
    words = [word.replace("FOLDER", str(tmp_path / "flat")) for word in words]
    short = ["backbone.depth=1", "train.steps=1", "train.batch_size=1", "hooks=[]", "preview.every=0"]
    code, _, err = dmf_command("train", "flowers_dit", *words, *short)
    assert code == 0, err


@pytest.mark.parametrize("name", shipped())
def test_it_trains(name: str, workdir: Path, dmf_command: Command, request: pytest.FixtureRequest) -> None:
    recipe = read(name)
    smaller = [*SMALLER.get(name, ()), *(() if FULL else SMALLER_IN_SMALL_COUNTS.get(name, ()))]
    if recipe.dataset.name in STAND_INS:
        request.getfixturevalue("stand_ins")
    words = [*smaller, *data_of(name, recipe.dataset.name, request.getfixturevalue("pictures"))]
    if recipe.codec.name == "autoencoder_kl":
        words.append(f"codec.path={request.getfixturevalue('autoencoder')}")
    short = ["train.steps=2", "train.batch_size=2", "log.every=1", "hooks=[]", "preview.every=0"]
    code, _, err = dmf_command("train", name, *words, *short)
    assert code == 0, err
    run = workdir / "runs" / name.replace("_", "-")
    assert (run / "history.jsonl").read_text().count("\n") == 2
    assert (run / "checkpoints/step-00000002").is_dir()
