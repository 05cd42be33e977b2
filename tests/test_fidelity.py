"""The features `fidelity`: torch-fidelity's VGG16 and CLIP, and DINOv2 as its authors have it."""

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_fidelity
import torchvision
from fidelity_kit import SmallVGG, small_clip, small_dinov2
from fidelity_kit import tiny_fidelity_fixture as tiny_fidelity_fixture
from torch import Tensor, nn
from torch.nn.functional import conv2d, layer_norm
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from dmf.core import DataSpec
from dmf.plugins.features._dinov2 import DINOv2
from dmf.plugins.features.fidelity import CLIP_MIB, DINOV2, Fidelity, published
from dmf.registry import UserError, build, load
from dmf.registry.options import schema

MODELS = ["vgg16", *CLIP_MIB, *DINOV2]
IMAGES = torch.randint(256, (3, 3, 20, 33), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@contextmanager
def deprecated() -> Iterator[None]:
    """Newer torch says that it would have another format than TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def made(model: str, file: Path, **options: Any) -> Fidelity:
    found: Fidelity = build("features", "fidelity", model=model, weights=str(file), sha256=sha256(file), **options)
    return found


@pytest.fixture
def vgg16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of a small network that stands where torchvision's would."""
    monkeypatch.setattr(torchvision.models, "vgg16", SmallVGG)
    torch.manual_seed(0)
    torch.save(SmallVGG().state_dict(), tmp_path / "vgg.pth")
    return tmp_path / "vgg.pth"


def test_the_models_are_torch_fidelitys() -> None:
    known = torch_fidelity.registry.FEATURE_EXTRACTORS_REGISTRY
    assert set(MODELS) == set(known) - {"inception-v3-compat"}
    assert schema(load("features", "fidelity"), "features")["properties"]["model"]["enum"] == MODELS


def test_vgg16(vgg16: Path) -> None:
    features = made("vgg16", vgg16)
    found = features(IMAGES, ("fc2", "fc2_relu"))
    theirs = torch_fidelity.FeatureExtractorVGG16("vgg16", ["fc2_relu", "fc2"], str(vgg16))
    assert features.layers == {"fc2_relu": 10, "fc2": 10} and features.name == f"vgg16_{sha256(vgg16)[:8]}"
    for name, want in zip(("fc2_relu", "fc2"), theirs(IMAGES), strict=True):
        assert torch.equal(found[name], want) and torch.equal(features(IMAGES, (name,))[name], want)
    assert "224 x 224" in features.protocol()["resize"]


@pytest.mark.parametrize(("kind", "side"), [("vit", 24), ("rn", 64)])
def test_clip(tmp_path: Path, kind: str, side: int) -> None:
    file = tmp_path / "clip.pt"
    small_clip(file, kind)
    features = made("clip-vit-b-32", file)
    assert features.layers == {"clip": 24} and f"{side} x {side}" in features.protocol()["resize"]
    with deprecated():
        theirs = torch_fidelity.FeatureExtractorCLIP("clip-vit-b-32", ["clip"], str(file))
    found = features(IMAGES, ("clip",))["clip"]
    assert torch.equal(found, theirs(IMAGES)[0]) and found.dtype == torch.float32
    # what the file's own code gives of images that are prepared by hand
    x = interpolate_bilinear_2d_like_tensorflow1x(IMAGES.float(), size=(side, side), align_corners=False) / 255
    mean, std = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    x = torchvision.transforms.functional.normalize(x, mean, std)
    with deprecated():
        script = torch.jit.load(str(file))  # type: ignore[no-untyped-call]
    assert torch.allclose(found, script(x), rtol=2e-2, atol=2e-3)  # the loader rounds weights to half precision


@pytest.mark.parametrize("swiglu", [False, True])
def test_dinov2_is_a_transformer_of_torchs(swiglu: bool) -> None:
    """torch's own encoder layers, with the scales of LayerScale multiplied into the weights before them."""
    state = small_dinov2(width=128, depth=2, grid=5, swiglu=swiglu)
    x = torch.randn(2, 3, 70, 70, generator=torch.Generator().manual_seed(1))
    h = conv2d(x, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=14).flatten(2).mT
    h = torch.cat([state["cls_token"].expand(2, 1, 128), h], 1) + state["pos_embed"]
    for i in range(2):
        block = {name.removeprefix(f"blocks.{i}."): one for name, one in state.items() if f"blocks.{i}." in name}
        h = encoder_layer(block, h, swiglu)
    want = layer_norm(h[:, 0], (128,), state["norm.weight"], state["norm.bias"], eps=1e-6)
    assert torch.allclose(DINOv2(state)(x), want, rtol=1e-4, atol=1e-5)


def encoder_layer(block: dict[str, Tensor], h: Tensor, swiglu: bool) -> Tensor:
    """One block; the half that torch's layer lacks, SwiGLU, as its formula."""
    with torch.no_grad():
        attention = nn.MultiheadAttention(128, 2, batch_first=True)
        attention.in_proj_weight.copy_(block["attn.qkv.weight"])
        attention.in_proj_bias.copy_(block["attn.qkv.bias"])
        attention.out_proj.weight.copy_(block["ls1.gamma"][:, None] * block["attn.proj.weight"])
        attention.out_proj.bias.copy_(block["ls1.gamma"] * block["attn.proj.bias"])
        x = layer_norm(h, (128,), block["norm1.weight"], block["norm1.bias"], eps=1e-6)
        h = h + attention(x, x, x, need_weights=False)[0]
        x = layer_norm(h, (128,), block["norm2.weight"], block["norm2.bias"], eps=1e-6)
        if swiglu:
            gate, value = (x @ block["mlp.w12.weight"].T + block["mlp.w12.bias"]).split(96, dim=-1)
            out = (gate * gate.sigmoid() * value) @ block["mlp.w3.weight"].T + block["mlp.w3.bias"]
        else:
            inner = x @ block["mlp.fc1.weight"].T + block["mlp.fc1.bias"]
            inner = inner * (1 + torch.erf(inner / 2**0.5)) / 2
            out = inner @ block["mlp.fc2.weight"].T + block["mlp.fc2.bias"]
        return h + block["ls2.gamma"] * out


def test_dinov2s_positions_are_stretched_as_its_authors_do() -> None:
    """Bicubic, a = -0.75, from a grid of 5 x 5 to 16 x 16, by the factor 16.1 / 5."""
    state = small_dinov2(grid=5)
    network = DINOv2(state)
    found = network._positions(16, 16)[0, 1:].reshape(16, 16, -1).numpy()
    known = state["pos_embed"][0, 1:].reshape(5, 5, -1).numpy()
    weights = np.zeros((16, 5))
    for i in range(16):
        at = (i + 0.5) * 5 / 16.1 - 0.5
        for j in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
            weights[i, min(max(j, 0), 4)] += cubic(abs(at - j))
    want = np.einsum("ij,kl,jlc->ikc", weights, weights, known)
    assert np.allclose(found, want, atol=1e-5)
    assert torch.equal(network._positions(16, 16)[:, 0], state["pos_embed"][:, 0])


def cubic(x: float) -> float:
    a = -0.75
    return (a + 2) * x**3 - (a + 3) * x**2 + 1 if x <= 1 else a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a


def test_dinov2_as_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "dinov2.pth"
    torch.save(small_dinov2(), file)
    features = made("dinov2-vit-s-14", file)
    x = interpolate_bilinear_2d_like_tensorflow1x(IMAGES.float(), size=(224, 224), align_corners=False) / 255
    x = torchvision.transforms.functional.normalize(x, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    found = features(IMAGES, ("dinov2",))["dinov2"]
    assert features.layers == {"dinov2": 128} and torch.allclose(found, DINOv2(small_dinov2())(x), atol=1e-5)
    grey = IMAGES[:, :1]
    assert torch.equal(*(features(one, ("dinov2",))["dinov2"] for one in (grey, grey.repeat(1, 3, 1, 1))))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(features(IMAGES, ("dinov2",))["dinov2"], found)
    known, of_tuples = torch.tensor, []
    with monkeypatch.context() as patched:  # mean and deviation are on the device, and not copied there for each batch
        patched.setattr(torch, "tensor", lambda x, **how: of_tuples.append(isinstance(x, tuple)) or known(x, **how))
        assert torch.equal(features(IMAGES, ("dinov2",))["dinov2"], found)
    assert True not in of_tuples
    features.check(DataSpec((1, 8, 8)))
    with pytest.raises(ValueError, match="1 or 3 channels"):
        features.check(DataSpec((4, 8, 8)))


# refusals and names


@pytest.mark.parametrize("model", MODELS)
def test_without_weights(model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr("dmf.files.download.urlopen", refuse)
    with pytest.raises(UserError) as error:
        build("features", "fidelity", model=model)
    whose, text = published(model), str(error.value)  # type: ignore[arg-type]
    assert whose.name in text and whose.sha256 in text and whose.addresses[0] in text and len(whose.sha256) == 64
    assert whose.mib > 80 and "to place it by hand" in text and "no network in this test" in text


@pytest.mark.parametrize("model", ["vgg16", "clip-rn50", "dinov2-vit-s-14"])
def test_weights_of_another_network(model: str, tmp_path: Path, vgg16: Path) -> None:
    other = tmp_path / "other.pth"
    torch.save({"fc.weight": torch.zeros(3, 3)}, other)
    with pytest.raises(UserError, match=f"does not fit {model}: .*; take {published(model).addresses[0]}"):  # type: ignore[arg-type]
        made(model, other)
    with pytest.raises(UserError, match=f"has sha256 {sha256(other)}, not {published(model).sha256}"):  # type: ignore[arg-type]
        build("features", "fidelity", model=model, weights=str(other))


def test_names(tiny_fidelity: None) -> None:
    assert [Fidelity(model=model).name for model in ("vgg16", "clip-vit-b-32")] == ["vgg16", "clip_vit_b_32"]  # type: ignore[arg-type]


def test_nothing_is_printed(tmp_path: Path, vgg16: Path, capfd: pytest.CaptureFixture[str]) -> None:
    small_clip(tmp_path / "clip.pt", "vit")
    torch.save(small_dinov2(), tmp_path / "dinov2.pth")
    capfd.readouterr()
    warnings.simplefilter("error")
    for model, file in (
        ("vgg16", vgg16),
        ("clip-rn50", tmp_path / "clip.pt"),
        ("dinov2-vit-b-14", tmp_path / "dinov2.pth"),
    ):
        made(model, file)
    assert capfd.readouterr() == ("", "")
