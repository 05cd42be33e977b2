"""The features `inception`: torch-fidelity's numbers, all layers in one pass, whatever is around them."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_fidelity
import torchvision
from inception_kit import Random, random_inception_fixture, random_weights
from inception_kit import tiny_inception_fixture as tiny_inception_fixture
from torch import Tensor

from dmf.core import DataSpec
from dmf.plugins.features.inception import INCEPTION, LAYERS, Inception
from dmf.registry import UserError, build

random_inception = random_inception_fixture
THEIRS = ("64", "192", "768", "2048", "logits_unbiased", "logits")


@pytest.fixture(scope="module", name="features")
def features_fixture(random_inception: Random) -> Inception:
    return Inception(weights=random_inception.file, sha256=random_inception.sha256)


@pytest.fixture(scope="module", name="images")
def images_fixture() -> Tensor:
    """Three images that are neither square nor of the network's size."""
    random = torch.Generator().manual_seed(0)
    return torch.randint(256, (3, 3, 24, 37), generator=random, dtype=torch.uint8)


@pytest.fixture(scope="module", name="found")
def found_fixture(features: Inception, images: Tensor) -> dict[str, Tensor]:
    return features(images, tuple(LAYERS))


def test_every_layer_is_torch_fidelitys(
    random_inception: Random, images: Tensor, found: dict[str, Tensor], features: Inception
) -> None:
    make = torch_fidelity.FeatureExtractorInceptionV3
    network = make("inception-v3-compat", list(THEIRS), feature_extractor_weights_path=random_inception.file)
    for name, want in zip(THEIRS, network(images), strict=True):
        assert torch.equal(found[name], want), name
        assert found[name].shape == (3, features.layers[name]) and found[name].dtype == torch.float32
        assert found[name].std(0).min() >= 0 and found[name].std() > 1e-3  # the layer sees something


def test_the_first_layer_is_fids(features: Inception) -> None:
    assert next(iter(features.layers)) == "2048" and features.layers["spatial"] == 2023


def test_the_spatial_layer_is_the_first_channels_of_mixed_6_conv(
    features: Inception, images: Tensor, found: dict[str, Tensor]
) -> None:
    """Module by module, as TensorFlow's graph names them: mixed is Mixed_5b, so mixed_6 is Mixed_6d."""
    net = features.network
    x = torch_fidelity.interpolate_compat_tensorflow.interpolate_bilinear_2d_like_tensorflow1x(
        images.float(), size=(299, 299), align_corners=False
    )
    x = (x - 128) / 128
    for module in (net.Conv2d_1a_3x3, net.Conv2d_2a_3x3, net.Conv2d_2b_3x3, net.MaxPool_1, net.Conv2d_3b_1x1):
        x = module(x)
    x = net.MaxPool_2(net.Conv2d_4a_3x3(x))
    mixed = [net.Mixed_5b, net.Mixed_5c, net.Mixed_5d, net.Mixed_6a, net.Mixed_6b, net.Mixed_6c]
    for module in mixed:
        x = module(x)
    branch = net.Mixed_6d.branch1x1
    conv = torch.nn.functional.conv2d(x, branch.conv.weight)  # (3, 192, 17, 17)
    bn = branch.bn
    conv = (conv - bn.running_mean[:, None, None]) / (bn.running_var[:, None, None] + 1e-3).sqrt()
    conv = (conv * bn.weight[:, None, None] + bn.bias[:, None, None]).relu()
    for place, row, column, channel in ((0, 0, 0, 0), (6, 0, 0, 6), (7, 0, 1, 0), (119, 1, 0, 0), (2022, 16, 16, 6)):
        assert torch.allclose(found["spatial"][:, place], conv[:, channel, row, column], rtol=1e-4, atol=1e-5)
    assert found["spatial"].shape == (3, 2023) and found["spatial"].std() > 1e-3


@pytest.mark.parametrize("layers", [("spatial",), ("logits",), ("2048", "spatial"), ("64",), ()])
def test_a_layer_is_the_same_whatever_is_asked_beside_it(
    features: Inception, images: Tensor, found: dict[str, Tensor], layers: tuple[str, ...]
) -> None:
    alone = features(images, layers)
    assert tuple(alone) == layers and all(torch.equal(alone[name], found[name]) for name in layers)


def test_autocast_and_gradients_around_it_change_nothing(
    features: Inception, images: Tensor, found: dict[str, Tensor]
) -> None:
    with torch.autocast("cpu", torch.bfloat16), torch.enable_grad():
        again = features(images, ("2048",))["2048"]
    assert torch.equal(again, found["2048"]) and not again.requires_grad
    with torch.inference_mode():
        features.to(torch.device("cpu"))
        assert torch.equal(features(images, ("2048",))["2048"], found["2048"])
    assert not any(one.requires_grad or one.is_inference() for one in features.network.parameters())


def test_grey_is_three_equal_channels(features: Inception, images: Tensor) -> None:
    grey = images[:, :1]
    assert torch.equal(features(grey, ("768",))["768"], features(grey.repeat(1, 3, 1, 1), ("768",))["768"])


@pytest.mark.parametrize("images", [torch.zeros(1, 2, 8, 8, dtype=torch.uint8), torch.zeros(1, 3, 8, 8)])
def test_other_images_are_refused(features: Inception, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"uint8 images .* of 1 or 3 channels; got"):
        features(images, ("2048",))


def test_specs(features: Inception) -> None:
    for shape in ((1, 8, 8), (3, 1, 1), (3, 300, 200)):
        features.check(DataSpec(shape))
    for shape in ((4, 8, 8), (2, 8, 8), (3, 8)):
        with pytest.raises(ValueError, match="read images of 1 or 3 channels"):
            features.check(DataSpec(shape))


def test_its_protocol_tells_whose_weights(features: Inception, random_inception: Random) -> None:
    told = features.protocol()
    assert told["features_sha256"] == hashlib.sha256(Path(random_inception.file).read_bytes()).hexdigest()
    assert features.name == told["features"] == f"inception_{random_inception.sha256[:8]}"
    assert "TensorFlow" in told["resize"] and "299" in told["resize"]


def test_the_published_weights_alone_are_called_inception(tiny_inception: Path) -> None:
    assert Inception().name == "inception"


# refusals


def refusal(**options: Any) -> str:
    with pytest.raises(UserError) as error:
        build("features", "inception", **options)
    return str(error.value)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr("dmf.files.download.urlopen", refuse)
    yield


def test_without_weights_or_network(no_network: None) -> None:
    text = refusal()
    assert INCEPTION.name in text and INCEPTION.sha256 in text and text.count("missing") == 2
    for address in INCEPTION.addresses:
        assert f"{address}: OSError: no network in this test" in text
    assert "to place it by hand" in text


def test_other_weights_are_never_taken_for_the_published_ones(random_inception: Random) -> None:
    text = refusal(weights=random_inception.file)
    assert f"has sha256 {random_inception.sha256}, not {INCEPTION.sha256}" in text and "give their hash" in text


def test_weights_of_another_network(tmp_path: Path) -> None:
    file = tmp_path / "torchvisions.pth"
    torch.save({"fc.weight": torch.zeros(1000, 2048), "AuxLogits.fc.bias": torch.zeros(1000)}, file)
    text = refusal(weights=str(file), sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    assert "does not fit torch-fidelity's Inception v3" in text and "AuxLogits" in text and INCEPTION.name in text


def test_nothing_is_printed(random_inception: Random, capfd: pytest.CaptureFixture[str]) -> None:
    Inception(weights=random_inception.file, sha256=random_inception.sha256)
    assert capfd.readouterr() == ("", "")


def test_torchvisions_own_network_is_what_the_message_says_it_is() -> None:
    theirs = {name for name, _ in torchvision.models.inception_v3(init_weights=False).named_parameters()}
    assert any("AuxLogits" in name for name in theirs) and not any("AuxLogits" in name for name in random_weights())
