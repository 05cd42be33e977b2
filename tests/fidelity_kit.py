"""Small networks in the formats of VGG16's, CLIP's and DINOv2's published weights."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_clip import CLIPVisual

from dmf.plugins.features import fidelity
from dmf.plugins.features._weights import Weights


class SmallVGG(nn.Module):
    """Where torchvision's VGG16 has 528 MiB of weights."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 9, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
        layers = [nn.Linear(16, 12), nn.ReLU(), nn.Dropout(), nn.Linear(12, 10), nn.ReLU(), nn.Dropout()]
        self.classifier = nn.Sequential(*layers, nn.Linear(10, 5))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.features(x).flatten(1))
        return out


class SmallCLIP(nn.Module):
    """Both halves, as far as a loader looks at them."""

    def __init__(self, layers: Any, width: int, patch: int) -> None:
        super().__init__()
        self.visual = CLIPVisual(24, 64 if patch == 0 else 3 * patch, layers, width, patch).visual
        self.text_projection = nn.Parameter(torch.randn(16, 24))
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.visual(x)
        return out


def small_clip(file: Path, kind: str) -> None:
    """A TorchScript file of a transformer, ``vit``, or of a convolutional network, ``rn``."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SmallCLIP(2, 64, 8) if kind == "vit" else SmallCLIP((1, 1, 1, 1), 64, 0)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.05)
    side = 24 if kind == "vit" else 64
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network.eval(), torch.zeros(1, 3, side, side)).save(str(file))  # type: ignore[no-untyped-call]


def small_dinov2(width: int = 128, depth: int = 2, grid: int = 5, swiglu: bool = False) -> dict[str, Tensor]:
    """Random weights by the published names."""
    random = torch.Generator().manual_seed(0)
    sizes: dict[str, Sequence[int]] = {
        "cls_token": (1, 1, width),
        "mask_token": (1, width),
        "pos_embed": (1, 1 + grid**2, width),
        "patch_embed.proj.weight": (width, 3, 14, 14),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    hidden = 96
    perceptron = {"w12": (2 * hidden, width), "w3": (width, hidden)} if swiglu else {}
    perceptron = perceptron or {"fc1": (hidden, width), "fc2": (width, hidden)}
    for block in (f"blocks.{i}." for i in range(depth)):
        linear = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
        linear |= {f"mlp.{name}": size for name, size in perceptron.items()}
        for name, size in linear.items():
            sizes |= {f"{block}{name}.weight": size, f"{block}{name}.bias": size[:1]}
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1.gamma", "ls2.gamma"):
            sizes[block + name] = (width,)
    return {name: 0.1 * torch.randn(*size, generator=random) for name, size in sizes.items()}


class Patches(nn.Module):
    """Means of 4 x 4 patches."""

    def __init__(self) -> None:
        super().__init__()
        self.none = nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        x: Tensor = nn.functional.adaptive_avg_pool2d(images.to(torch.float32), 4).flatten(1)
        return x + self.none


@pytest.fixture(name="tiny_fidelity")
def tiny_fidelity_fixture(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its networks are a tiny one, whose weights need no file."""

    def look(module: nn.Module, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        return dict.fromkeys(layers, module(images))

    network = fidelity.Network(Patches(), {"patches": 48}, 224, look)
    monkeypatch.setattr(fidelity, "load", lambda model, weights: network)
    found = lambda whose, weights, sha256: Weights(Path(whose.name), whose.sha256)  # noqa: E731
    monkeypatch.setattr(fidelity, "weights_file", found)
