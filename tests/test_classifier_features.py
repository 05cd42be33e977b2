"""Features of a classifier by path: the real CIFAR network reads real images; layers, images, files, refusals."""

import copy
import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import FULL
from data_kit import real_data, real_file
from PIL import Image
from registry_kit import Install
from registry_kit import install_fixture as install_fixture
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, pad
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor

from dmf.core import DataSpec
from dmf.plugins.datasets.cifar10 import CIFAR10
from dmf.plugins.features._cifar_resnet import CifarResNet
from dmf.plugins.features.classifier import Classifier
from dmf.registry import PartError, build
from dmf.registry.options import check
from dmf.testing import check_part

MEAN, STD = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
RESNET20 = "cifar10_resnet20-12fca82f.th"


def noise(*shape: int) -> Tensor:
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def filled(make: Callable[..., nn.Module], *given: Any, **more: Any) -> Any:
    """The same network each time, with batch norms that are not those of a fresh one."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = make(*given, **more)
        for name, value in network.state_dict().items():
            if "running" in name or ("bn" in name and value.is_floating_point()):
                value += torch.rand_like(value) * 0.3
    return network.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ResNet of torchvision's with seven classes and one for CIFAR, in every form."""
    folder = tmp_path_factory.mktemp("networks")
    network = filled(resnet18, num_classes=7)
    state = network.state_dict()
    save_file(state, folder / "r18.safetensors")
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}, folder / "r.pth")
    old = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    torch.save({f"_orig_mod.{name}": value for name, value in old.items()}, folder / "old.pth")
    save_file(filled(CifarResNet, 20).state_dict(), folder / "resnet20.safetensors")
    save_file(filled(CifarResNet, 32, 5, 1).state_dict(), folder / "grey.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network, torch.rand(2, 3, 32, 32)).save(str(folder / "traced.pt"))
        torch.jit.freeze(torch.jit.script(network)).save(str(folder / "frozen.pt"))
        torch.jit.script(Bytes()).save(str(folder / "bytes.ts"))
        torch.jit.script(nn.Conv2d(3, 4, 3)).save(str(folder / "maps.pt"))
    return folder


class Bytes(nn.Module):
    """A network that normalises by itself, and says whether it was given bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        assert x.dtype == torch.uint8
        return self.conv(x.float() / 255).mean((2, 3))


# the real network


@pytest.mark.slow
def test_the_real_network_reads_the_real_test_set() -> None:
    """91.73 % of it; the paper's table 6 has 91.25 % for ResNet-20."""
    root = real_data("cifar-10-batches-py")
    network = Classifier(path=real_file(RESNET20), architecture="resnet20", sha256="12fca82f")
    images, cond = CIFAR10(split="test", root=root, download=False).tensors()
    count = 10_000 if FULL else 1000
    read = [network(part, ["logits"])["logits"].argmax(1) for part in torch.split(images[:count], 250)]
    right = float((torch.cat(read) == cond["class"][:count]).double().mean())
    assert right == pytest.approx(0.9173, abs=0.0002) if FULL else right > 0.9
    assert network.name == "cifar10_resnet20-12fca82f"


# what the layers are


def by_hand(state: dict[str, Tensor], x: Tensor, blocks: int) -> tuple[Tensor, Tensor]:
    """The network of section 4.2, from its weights alone: features and logits."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, gain, bias = (state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        return (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt() * gain[:, None, None] + bias[
            :, None, None
        ]

    x = norm(conv2d(x, state["conv1.weight"], padding=1), "bn1").clamp(min=0)
    for stage in (1, 2, 3):
        for block in range(blocks):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            f = norm(conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1").clamp(min=0)
            f = norm(conv2d(f, state[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            if stride == 2:
                x = pad(x[:, :, ::2, ::2], (0, 0, 0, 0, x.shape[1] // 2, x.shape[1] // 2))
            x = (f + x).clamp(min=0)
    features = x.mean((2, 3))
    return features, linear(features, state["linear.weight"], state["linear.bias"])


@pytest.mark.parametrize(("name", "depth", "classes", "channels"), [("resnet20", 20, 10, 3), ("grey", 32, 5, 1)])
def test_the_networks_for_cifar_are_the_papers(
    folder: Path, name: str, depth: int, classes: int, channels: int
) -> None:
    file = folder / f"{name}.safetensors"
    network = Classifier(path=str(file), architecture=f"resnet{depth}", mean=(0.5,), std=(0.25,))
    images = noise(3, channels, 32, 32)
    from safetensors.torch import load_file

    features, logits = by_hand(load_file(file), (images / 255 - 0.5) / 0.25, (depth - 2) // 6)
    assert {k: network.layers[k] for k in ("features", "logits")} == {"features": 64, "logits": classes}
    found = network(images, ("features", "logits"))
    torch.testing.assert_close(found["features"], features, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["logits"], logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("file", ["r18.safetensors", "r.pth", "old.pth"])
def test_layers_are_what_torchvision_finds_there(folder: Path, file: str) -> None:
    """With the prefixes of DataParallel and of torch.compile, under state_dict, without counters, of seven classes."""
    network, theirs = Classifier(path=str(folder / file), architecture="resnet18"), filled(resnet18, num_classes=7)
    nodes = {"layer1.1.bn1": "maps", "layer3": "stage", "flatten": "features", "fc": "logits"}
    images = noise(2, 3, 40, 40)
    for module in theirs.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # or what is found there is written over
    with torch.no_grad():
        want = create_feature_extractor(theirs, nodes)((images / 255 - MEAN) / STD)
    found = network(images, ("logits", "features", "layer3", "layer1.1.bn1"))
    assert list(network.layers)[:2] == ["features", "logits"]
    torch.testing.assert_close(found["features"], want["features"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["logits"], want["logits"], rtol=1e-4, atol=1e-4)
    # maps are averaged, and the relu in place that follows a batch norm does not reach into them
    torch.testing.assert_close(found["layer1.1.bn1"], want["maps"].mean((2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["layer3"], want["stage"].mean((2, 3)), rtol=1e-4, atol=1e-5)
    assert found["layer1.1.bn1"].min() < 0 and network.layers["layer3"] == 256
    assert "layer1.0.relu" not in network.layers  # asked twice in a pass: which of the two?


@pytest.mark.parametrize("file", ["traced.pt", "frozen.pt"])
def test_torchscript_has_its_output(folder: Path, file: str) -> None:
    network = Classifier(path=str(folder / file), channels=3)
    assert dict(network.layers) == {"output": 7}
    images = noise(2, 3, 32, 32)
    with torch.no_grad():
        want = filled(resnet18, num_classes=7)((images / 255 - MEAN) / STD)
    for _ in range(4):  # its first passes are those that torch would watch
        torch.testing.assert_close(network(images, ["output"])["output"], want, rtol=1e-4, atol=1e-4)
    assert network.protocol()["architecture"] == "TorchScript"


def test_a_network_without_a_linear_layer_at_its_end_has_an_output(tmp_path: Path) -> None:
    from torchvision.models import squeezenet1_1

    save_file(squeezenet1_1(num_classes=6).state_dict(), tmp_path / "s.safetensors")
    network = Classifier(path=str(tmp_path / "s.safetensors"), architecture="squeezenet1_1")
    assert next(iter(network.layers.items())) == ("output", 6) and "features" not in network.layers
    assert network.layers["features.3"] == 128


def test_heads_for_training_alone_are_left_out(tmp_path: Path) -> None:
    from torchvision.models import googlenet

    save_file(googlenet(num_classes=4, init_weights=False).state_dict(), tmp_path / "g.safetensors")
    network = Classifier(path=str(tmp_path / "g.safetensors"), architecture="googlenet", size=64)
    assert (network.layers["features"], network.layers["logits"]) == (1024, 4)


# what happens to the images


@pytest.fixture(scope="module")
def small(folder: Path) -> Classifier:
    return Classifier(path=str(folder / "resnet20.safetensors"), architecture="resnet20", size=32)


@pytest.mark.parametrize("shape", [(3, 45, 45), (3, 20, 20), (1, 28, 28), (3, 24, 40)])
def test_images_are_resized_as_pillow_does(small: Classifier, shape: tuple[int, ...]) -> None:
    """Antialiased bicubic in floating point; grey in three channels; the right size is left alone."""
    images = noise(2, *shape)
    planes = [
        [
            np.asarray(Image.fromarray(plane.float().numpy()).resize((32, 32), Image.Resampling.BICUBIC))
            for plane in image
        ]
        for image in images
    ]
    want = torch.from_numpy(np.array(planes)).clamp(0, 255).expand(-1, 3, -1, -1) / 255
    torch.testing.assert_close(small._prepare(images), (want - MEAN) / STD, rtol=1e-4, atol=1e-4)
    whole = noise(2, 3, 32, 32)
    torch.testing.assert_close(small._prepare(whole), (whole / 255 - MEAN) / STD, rtol=1e-5, atol=1e-6)


def test_grey_images_are_three_equal_channels(small: Classifier) -> None:
    grey = noise(3, 1, 28, 28)
    found = small(grey, ["features"])["features"]
    assert torch.equal(found, small(grey.expand(-1, 3, -1, -1), ["features"])["features"])


def test_bytes_for_a_network_that_wants_them(folder: Path) -> None:
    network = Classifier(path=str(folder / "bytes.ts"), mean=None, std=None, size=16)
    assert network.protocol()["pixels"] == "bytes" and "rounded" in network.protocol()["resize"]
    network.check(DataSpec((3, 20, 20)))
    images = noise(2, 3, 16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = torch.jit.load(str(folder / "bytes.ts"))
    assert torch.equal(network(images, ["output"])["output"], theirs(images))


def test_nothing_around_it_changes_a_feature(small: Classifier) -> None:
    images = noise(5, 3, 32, 32)
    found = small(images, ["features"])["features"]
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        assert torch.equal(small(images, ["features"])["features"], found)
    assert torch.equal(copy.deepcopy(small)(images, ["features"])["features"], found)
    assert torch.equal(small.to(torch.device("cpu"))(images, ["features", "logits"])["features"], found)
    assert not any(module._forward_hooks for module in small._network.modules())


def test_building_one_uses_up_no_random_number(folder: Path) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    Classifier(path=str(folder / "r.pth"), architecture="resnet18", size=32)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    "options",
    [
        {"path": "resnet20.safetensors", "architecture": "resnet20"},
        {"path": "traced.pt", "size": 32},
        {"path": "grey.safetensors", "architecture": "resnet32", "mean": [0.5], "std": [0.5], "called": "clothes"},
    ],
    ids=["weights", "torchscript", "grey"],
)
def test_the_contract_of_extractors(folder: Path, options: dict[str, Any]) -> None:
    check_part("features", "classifier", **{**options, "path": str(folder / options["path"])})


# names, hashes, protocol


def test_the_protocol_has_all_that_changes_a_feature(folder: Path) -> None:
    file = folder / "r18.safetensors"
    one = Classifier(path=str(file), architecture="resnet18", size=64, called="my net (v2)")
    assert one.name == "my_net_v2_" and one.protocol() == {
        "features": "my_net_v2_",
        "features_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "architecture": "resnet18",
        "resize": "antialiased bicubic, to 64 x 64, not rounded",
        "channels": "3",
        "pixels": "of [0, 1], minus (0.485, 0.456, 0.406), over (0.229, 0.224, 0.225)",
    }
    others = [{"size": 48}, {"mean": (0.5,)}, {"std": (0.5,)}, {"path": str(folder / "r.pth")}]
    same: dict[str, Any] = {"path": str(file), "architecture": "resnet18", "size": 64, "called": "my net (v2)"}
    assert all(Classifier(**{**same, **other}).protocol() != one.protocol() for other in others)


def test_a_metric_looks_at_any_layer_and_is_called_after_it(folder: Path) -> None:
    features = {"name": "classifier", "path": str(folder / "resnet20.safetensors"), "architecture": "resnet20"}
    metric = build("metric", "kernel", features=features, layer="layer2.0")
    assert metric.dim == 32 and metric.feature_name == "resnet20_layer2.0"
    with pytest.raises(
        PartError, match=r"have features, logits, conv1, .* more; got 'layer2\.7'; did you mean layer2\."
    ):
        build("metric", "kernel", features=features, layer="layer2.7")


# refusals

R18: dict[str, Any] = {"path": "r18.safetensors", "architecture": "resnet18"}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"path": "none.pt"}, r"path: .*none\.pt cannot be read \(No such file"),
    ({"path": "."}, r"path: .* cannot be read \(Is a directory\); expected the file of a classifier"),
    ({"path": "r.pth"}, r"architecture: .*r\.pth is no TorchScript; .* say of which: .*resnet50.*resnet20, resnet32"),
    ({**R18, "architecture": "resnet5O"}, r"architecture: .*vgg19.*; got 'resnet5O'; did you mean .*resnet50"),
    ({**R18, "architecture": "resnet34"}, r"the weights in .* are not those of resnet34: \d+ differ, such as layer"),
    ({**R18, "architecture": "resnet20"}, r"are not those of resnet20: .* such as conv1\.weight \(64, 3, 7, 7\), exp"),
    ({"path": "traced.pt", "architecture": "resnet18"}, r"is TorchScript and knows its own; leave out 'resnet18'"),
    ({**R18, "sha256": "0" * 64}, r"sha256: .* has [0-9a-f]{64}, expected 0{64}; take the right file"),
    ({**R18, "sha256": "12fca82"}, r"sha256: expected 8 to 64 hexadecimal digits"),
    ({**R18, "path": "code.pth"}, r"path: .*code\.pth cannot be read as a state dict.* dmf executes no pickle"),
    ({**R18, "path": "cut.safetensors"}, r"path: .*cut\.safetensors cannot be read as a state dict"),
    ({"path": "cut.pt"}, r"architecture: .*cut\.pt is no TorchScript"),
    ({**R18, "std": None}, r"mean and std go together"),
    ({**R18, "mean": [0.5, 0.5]}, r"mean: expected one number, or one for each of the network's 3 channel\(s\); got 2"),
    ({"path": "frozen.pt"}, r"channels: the network shows no convolution .* 1 or 3"),
    ({"path": "maps.pt"}, r"expected the network to give \(B, D\), here \(2, D\); got shape \(2, 4, 30, 30\)"),
    ({"path": "traced.pt", "channels": 1, "mean": [0.5], "std": [1]}, r"gives nothing for images of 1 channel\(s\)"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_refused_with_a_sentence(folder: Path, options: dict[str, Any], message: str) -> None:
    whole = (folder / "r18.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (folder / "cut.pt").write_bytes((folder / "traced.pt").read_bytes()[:5000])
    torch.save({"net": nn.Linear(2, 2)}, folder / "code.pth")
    with pytest.raises(PartError, match=message):
        build("features", "classifier", **{**options, "path": str(folder / options["path"])})


@pytest.mark.parametrize("options", [{"std": [0.2, 0.0, 0.2]}, {"size": 0}, {"channels": 2}])
def test_refused_by_the_recipe(options: dict[str, Any]) -> None:
    assert check(Classifier, "features", {"path": "x", **options})


def test_images_that_it_cannot_read_are_refused_before_the_work(folder: Path, small: Classifier) -> None:
    for shape in ((2, 32, 32), (3, 32)):
        with pytest.raises(ValueError, match=r"`resnet20` read images of 1 or 3 channels, \(C, H, W\); got"):
            small.check(DataSpec(shape))
    grey = Classifier(path=str(folder / "grey.safetensors"), architecture="resnet32", mean=(0.5,), std=(0.5,))
    with pytest.raises(ValueError, match=r"read images of 1 channel\(s\), \(C, H, W\); got \(3, 32, 32\)"):
        grey.check(DataSpec((3, 32, 32)))
    with pytest.raises(ValueError, match="expected uint8 images"):
        small(torch.rand(2, 3, 32, 32), ["features"])


def test_a_size_that_the_network_does_not_read_names_the_remedy(tmp_path: Path) -> None:
    from torchvision.models import alexnet

    save_file(alexnet(num_classes=3).state_dict(), tmp_path / "a.safetensors")
    network = Classifier(path=str(tmp_path / "a.safetensors"), architecture="alexnet")
    network.check(DataSpec((3, 64, 64)))
    with pytest.raises(ValueError, match=r"`a` cannot read images of shape \(3, 16, 16\): .*; the option size resizes"):
        network.check(DataSpec((3, 16, 16)))


EYES = """
import torch
from dmf.core import FeatureExtractor

class Eyes(FeatureExtractor):
    '''Looks.'''
    name, layers = "eyes", {"pixels": 4}

    def __call__(self, images, layers):
        return {"pixels": images.flatten(1).float()}

    def protocol(self):
        return {"features": "eyes"}
"""


def test_a_wrong_extractor_ends_an_evaluation_before_its_work(
    install: Install, workdir: Path, folder: Path, dmf_command: Callable[..., tuple[int, str, str]]
) -> None:
    install("acme-eyes", {"dmf.features": "eyes = acme_eyes:Eyes"}, {"acme_eyes.py": EYES})
    np.savez("a.npz", arr_0=noise(40, 16, 16, 1).numpy())
    evaluate = ("evaluate", "--generated", "a.npz", "--reference", "a.npz", "--metrics")
    code, out, err = dmf_command(*evaluate, "[{name: kernel, features: eyes}]")
    assert code == 2 and not out
    assert "`eyes`, layer pixels: expected float32 of shape (2, 4) for two images; got torch.float32 of" in err
    named = f"{{name: classifier, path: {folder / 'resnet20.safetensors'}, architecture: resnet20, called: small}}"
    code, out, err = dmf_command(*evaluate, f"[{{name: kernel, features: {named}, layer: layer1}}]", "--json", "r.json")
    assert code == 0, err
    found = json.loads(Path("r.json").read_text(encoding="utf-8"))["kernel_small_layer1"]
    assert abs(found["value"]) < 1e-2 and found["protocol"]["architecture"] == "resnet20"
