"""Runs that keep latents: what is trained, what is said, when they are kept, refusals, other weights, other data."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from data_kit import paint
from latents_kit import WEIGHTS, make_autoencoder
from safetensors.torch import load_file, save_file
from torch import Tensor

from dmf.plugins.codecs.autoencoder_kl import AutoencoderKL

Command = Callable[..., tuple[int, str, str]]
RECIPE = """\
name: kept
device: cpu
dataset: {name: image_folder, root: pets, size: 16}
codec: {name: autoencoder_kl, path: vae, slice: 4}
latents: {shard_mib: 0.01}
augment: [flip]
backbone: {name: dit, hidden: 32, depth: 1, heads: 2, patch: 4}
schedule: flow
prediction: flow
train: {steps: 8, batch_size: 4, lr: 1e-3, ema: []}
sampler: {name: euler, steps: 1}
sample: {per_class: 1}
log: {every: 2}
checkpoint: {every: 4}
hooks: []
"""


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_autoencoder(tmp_path_factory.mktemp("vae"), scaling_factor=0.5)


@pytest.fixture
def home(workdir: Path, autoencoder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pictures, an autoencoder and a recipe."""
    monkeypatch.setenv("DMF_CACHE", str(workdir / "cache"))
    for number in range(7):
        paint(workdir / f"pets/{'cat' if number % 2 else 'dog'}/{number}.png", seed=number)
    shutil.copytree(autoencoder, workdir / "vae")
    (workdir / "kept.yaml").write_text(RECIPE)
    return workdir


@pytest.fixture
def train(home: Path, dmf_command: Command) -> Callable[..., str]:
    """Trains; what was said."""

    def run(*words: str) -> str:
        code, out, err = dmf_command("train", "kept.yaml", *words)
        assert code == 0, err
        return out + err

    return run


@pytest.fixture
def refused(home: Path, dmf_command: Command) -> Callable[..., str]:
    """Is refused; why."""

    def run(*words: str) -> str:
        code, _, err = dmf_command("train", "kept.yaml", *words)
        assert code == 2 and "Traceback" not in err
        return err

    return run


def weights(home: Path, name: str = "kept", step: int = 8) -> dict[str, Tensor]:
    return load_file(home / f"runs/{name}/checkpoints/step-{step:08d}/model.safetensors")


def apart(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def caches(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "cache/latents").iterdir())


def test_what_is_trained_is_the_same_with_the_cache_and_without(home: Path, train: Callable[..., str]) -> None:
    first = train()
    assert "latents: encoding 7 images as they are and mirrored, 28.0 KiB in " in first
    assert "encode 14/14" in first and first.count("latents:") == 2
    again = train("name=again", "loading.device_gib=0")
    assert "latents: encoding" not in again and "; read from disk" in again and "gathered" in again
    never = train("name=never", "latents.cache=false")
    assert "latents" not in never
    a, b, c = (weights(home, name) for name in ("kept", "again", "never"))
    assert apart(a, b) == 0
    assert apart(a, c) < 1e-6, "other slices go through the encoder together, and may round otherwise"


def test_half_precision_is_the_same_with_the_cache_and_without(home: Path, train: Callable[..., str]) -> None:
    assert "14.0 KiB" in train("latents.dtype=float16")
    train("name=never", "latents.dtype=float16", "latents.cache=false")
    train("name=whole")
    assert apart(weights(home), weights(home, "never")) < 1e-6 < apart(weights(home), weights(home, "whole"))
    assert len(caches(home)) == 4


def test_the_second_start_encodes_nothing(
    home: Path, train: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train()

    def fail(*args: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(AutoencoderKL, "moments", fail)
    train("train.steps=12")
    train("name=again")
    with pytest.raises(AssertionError, match="encoded again"):
        train("name=never", "latents.cache=false")


def test_latents_may_be_kept_or_not_as_a_run_goes_on_but_not_rounded_otherwise(
    train: Callable[..., str], refused: Callable[..., str]
) -> None:
    said = train()
    assert "latents were" not in said
    said = train("train.steps=10", "latents.cache=false")
    assert "latents were kept, and are encoded as they are trained on now: the same numbers, to the rounding" in said
    said = train("train.steps=12", "latents.shard_mib=1")
    assert "latents were encoded as they are trained on, and are kept now" in said
    assert "latents.dtype" in refused("train.steps=14", "latents.dtype=float16")


# when


def test_few_images_are_not_encoded_all(home: Path, train: Callable[..., str]) -> None:
    said = train("train.steps=3")  # 12 of 14
    assert "latents are not kept" in said and "sees 12, there are 14" in said and "latents.cache: true" in said
    assert not (home / "cache/latents").exists()
    assert "encode 14/14" in train("name=all", "train.steps=3", "latents.cache=true")
    assert "latents: encoding" not in train("name=plain", "train.steps=2", "augment=[]"), "8 of 7, which are there"


def test_other_augmentations_are_never_kept(home: Path, train: Callable[..., str], refused: Callable[..., str]) -> None:
    said = refused("augment=[flip, {name: crop, padding: 2}]", "latents.cache=true")
    assert not (home / "runs").exists(), "it is known before anything is made"
    assert "latents.cache" in said and "augment: crop" in said and "augment: [flip]" in said
    assert not (home / "cache/latents").exists()
    said = train("augment=[flip, {name: crop, padding: 2}]")
    assert "latents are not kept" in said and "augment: crop" in said
    assert not (home / "cache/latents").exists()


def test_pixels_have_nothing_to_keep(home: Path, train: Callable[..., str], refused: Callable[..., str]) -> None:
    assert "latents" not in train("codec=pixels")
    assert "codec pixels has no moments" in refused("name=other", "codec=pixels", "latents.cache=true")
    assert not (home / "runs/other").exists(), "it is known before anything is made"


def test_a_codec_without_facts_has_nothing_that_its_moments_are_known_by(
    home: Path, train: Callable[..., str], refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AutoencoderKL, "facts", lambda self: {})
    assert "codec autoencoder_kl has no facts" in refused("latents.cache=true")
    assert "latents are not kept" in train() and not (home / "cache/latents").exists()


# where


def test_a_disk_that_is_too_small(
    home: Path, train: Callable[..., str], refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil._ntuple_diskusage(10**9, 10**9 - 29_300, 29_300)  # type: ignore[attr-defined]
    monkeypatch.setattr("dmf.runner.latents.plan.shutil.disk_usage", lambda path: usage)
    said = refused("latents.cache=true")
    assert "latents.cache: they need 28.2 KiB, and" in said and "28.6 KiB free, of which 5% are left" in said
    assert all(remedy in said for remedy in ("DMF_CACHE", "latents.dtype: float16", "latents.cache: false"))
    said = train()
    assert "warning: latents are not kept: they need 28.2 KiB" in said
    train("name=half", "latents.dtype=float16", "latents.cache=true")


def test_a_disk_that_becomes_full(
    home: Path, train: Callable[..., str], refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("dmf.files.cache._write", full)
        assert "moments cannot be written" in refused("latents.cache=true")
        said = train()
        assert "warning: latents are not kept" in said and "dmf data cache --clear latents deletes it" in said
    train("name=again")
    assert apart(weights(home), weights(home, "again")) < 1e-6


def test_a_place_that_cannot_be_written(
    home: Path, train: Callable[..., str], refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMF_CACHE", str(home / "kept.yaml"))
    said = refused("latents.cache=true")
    assert "kept.yaml" in said and "cannot be written" in said and "DMF_CACHE" in said
    assert "warning: latents are not kept" in train()


# of what


def other_weights(home: Path) -> None:
    changed = {name: value + 1e-3 for name, value in load_file(home / "vae" / WEIGHTS).items()}
    save_file(changed, home / "vae" / WEIGHTS)


def test_other_weights_make_another_cache_and_no_run_goes_on_with_them(
    home: Path, train: Callable[..., str], refused: Callable[..., str], dmf_command: Command
) -> None:
    train()
    facts = json.loads((home / "runs/kept/facts.json").read_text())
    assert len(facts["codec.weights"]) == len(facts["codec.config"]) == 64
    shutil.copytree(home / "vae", home / "moved")
    other_weights(home)
    said = refused("train.steps=12")
    assert "runs/kept was trained through another codec: its codec.weights was" in said and "name=..." in said
    assert facts["codec.weights"][:16] in said
    for command in ("sample", "likelihood"):
        code, _, err = dmf_command(command, "kept")
        assert code == 2 and "another codec" in err, command
    assert "encode 14/14" in train("name=other")
    assert len(caches(home)) == 4
    assert "latents: encoding" not in train("name=moved", "codec.path=moved"), "the old weights in another place"


def test_a_run_goes_on_with_its_weights_in_another_place_and_in_other_slices(
    home: Path, train: Callable[..., str], refused: Callable[..., str]
) -> None:
    train()
    shutil.move(home / "vae", home / "moved")
    train("train.steps=10", "codec.path=moved", "codec.slice=1")
    assert "path: moved" in (home / "runs/kept/recipe.yaml").read_text()
    said = refused("train.steps=12", "codec.path=moved", "codec.posterior=mean")
    assert "holds a run of another recipe:\n  codec.posterior: draw -> mean" in said
    make_autoencoder(home / "others", seed=1, scaling_factor=0.5)
    assert "trained through another codec: its codec.weights was" in refused("train.steps=12", "codec.path=others")
    assert "another recipe" in refused("train.steps=12", "codec=pixels")


def test_other_pictures_make_another_cache(home: Path, train: Callable[..., str]) -> None:
    train()
    paint(home / "pets/cat/1.png", seed=99)
    assert "encode 14/14" in train("name=other") and len(caches(home)) == 4
    assert "encode 7/7" in train("name=small", "dataset.size=8", "augment=[]") and len(caches(home)) == 5
    assert "latents: encoding" not in train("name=plain", "augment=[]"), "as they are they lie there already"


def test_a_picture_that_cannot_be_read_is_named(home: Path, refused: Callable[..., str]) -> None:
    (home / "pets/cat/3.png").write_bytes((home / "pets/cat/3.png").read_bytes()[:300])
    for workers in (0, 1):
        said = refused("dataset.memory_gib=0", f"loading.workers={workers}")
        assert "cat/3.png" in said


def test_scores_say_which_weights(home: Path, dmf_command: Command) -> None:
    words = ["dataset=digits", "dataset.name=digits", "train.steps=2", "latents.cache=false", "augment=[]"]
    shutil.rmtree(home / "vae")
    make_autoencoder(home / "vae", in_channels=1, out_channels=1)
    metrics = "evaluate={images: 8, metrics: [{name: kernel, features: digits}]}"
    code, out, err = dmf_command("run", "kept.yaml", *words, metrics)
    assert code == 0, out + err
    found = json.loads((home / "runs/kept/metrics.json").read_text())["kernel_digits"]["protocol"]
    assert found["codec.weights"] == json.loads((home / "runs/kept/facts.json").read_text())["codec.weights"]
