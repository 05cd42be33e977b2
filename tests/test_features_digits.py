"""The digit features: the shipped weights read real digits, and nothing around them changes a value."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dmf.core import DataSpec
from dmf.plugins.datasets.digits import Digits
from dmf.plugins.features import train_digits
from dmf.plugins.features.digits import WEIGHTS, DigitFeatures


def first(features: DigitFeatures, images: torch.Tensor) -> torch.Tensor:
    return features(images, ("features",))["features"]


@pytest.fixture(scope="module")
def features() -> DigitFeatures:
    return DigitFeatures()


@pytest.fixture(scope="module")
def test_split() -> Digits:
    return Digits(split="test")


def test_the_shipped_network_reads_digits_it_never_saw(features: DigitFeatures, test_split: Digits) -> None:
    assert train_digits.accuracy(features.network) >= 0.99
    mirrored = test_split.images.flip(3)  # it reads the pixels, not their histogram
    assert (features.network(mirrored).argmax(1) == test_split.cond["class"]).double().mean() < 0.7


def test_features_are_64_numbers_about_as_large_as_one(features: DigitFeatures) -> None:
    found = first(features, Digits().images)
    assert found.shape == (1497, features.layers["features"]) == (1497, 64) and found.dtype == torch.float32
    assert found.mean(0).abs().max() < 0.3 and found.std(0).min() > 0.7 and found.std(0).max() < 1.3
    assert torch.linalg.matrix_rank(found.T.cov()) == 64  # or a Fréchet distance would be of fewer features


def test_neither_batch_nor_autocast_changes_a_feature(features: DigitFeatures, test_split: Digits) -> None:
    whole = first(features, test_split.images)
    parts = torch.cat([first(features, part) for part in torch.split(test_split.images, 7)])
    assert torch.allclose(parts, whole, rtol=1e-6, atol=1e-7)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(first(features, test_split.images), whole)
    assert not whole.requires_grad


def test_the_weights_are_small_whole_and_named(features: DigitFeatures) -> None:
    assert WEIGHTS.stat().st_size < 100_000
    assert features.protocol()["features_sha256"] == hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert features.name == "digits" and not features.network.training


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 28, 28)])
def test_other_images_are_refused(features: DigitFeatures, shape: tuple[int, ...]) -> None:
    features.check(DataSpec((1, 8, 8)))
    with pytest.raises(ValueError, match=r"`digits` read images of shape \(1, 8, 8\); got \(\d+, \d+, \d+\)"):
        features.check(DataSpec(shape))


def test_the_script_makes_such_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two epochs of the forty: the same file twice, of the shipped one's form, already above 80 %."""
    monkeypatch.setattr(train_digits, "EPOCHS", 2)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)  # for the process of the tests
    for name in ("a", "b"):
        assert train_digits.main([str(tmp_path / name)]) == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    made, shipped = load_file(tmp_path / "a"), load_file(WEIGHTS)
    assert {k: v.shape for k, v in made.items()} == {k: v.shape for k, v in shipped.items()}
    assert float(capsys.readouterr().out.split()[-1]) > 0.8
    assert train_digits.main([]) == 2
    assert "usage: python -m dmf.plugins.features.train_digits" in capsys.readouterr().err


def test_shifts_move_by_a_pixel_at_most() -> None:
    torch.manual_seed(0)
    image = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    image[0, 0, 3, 4] = 200
    moved = train_digits.shifted(image.expand(400, 1, 8, 8))
    assert moved.shape == (400, 1, 8, 8)
    places = {(int(r), int(c)) for _, _, r, c in moved.nonzero()}
    assert places == {(r, c) for r in (2, 3, 4) for c in (3, 4, 5)}
    assert train_digits.shifted(torch.full((9, 1, 8, 8), 7)).max() == 7
