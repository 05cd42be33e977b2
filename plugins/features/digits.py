"""Features of 8 x 8 digits, from a small network trained on the real ones (`train_digits`), shipped with its weights.

A distance on them is comparable between people, for everyone has the same weights, and it is not an FID.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

from ...core import DataSpec, FeatureExtractor

WEIGHTS = Path(__file__).with_name("digits.safetensors")
SHAPE = (1, 8, 8)
WIDTH = 64


class DigitNet(nn.Module):
    """Three convolutions, 64 features, ten classes: 23 thousand weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 32, 3, padding=1)
        self.out = nn.Linear(32 * 2 * 2, WIDTH)
        # every feature has mean 0 and standard deviation 1 over the real digits: the unit of the distances
        self.norm = nn.BatchNorm1d(WIDTH, affine=False)
        self.head = nn.Linear(WIDTH, 10)

    def features(self, images: Tensor) -> Tensor:
        """Uint8 (B, 1, 8, 8) to (B, 64), in the dtype of the weights."""
        x = images.to(self.out.weight.dtype) / 127.5 - 1
        x = max_pool2d(relu(self.conv2(relu(self.conv1(x)))), 2)  # (B, 32, 4, 4)
        x = max_pool2d(relu(self.conv3(x)), 2)  # (B, 32, 2, 2)
        features: Tensor = self.norm(self.out(x.flatten(1)))
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Uint8 (B, 1, 8, 8) to the ten classes' logits."""
        logits: Tensor = self.head(relu(self.features(images)))
        return logits


class DigitFeatures(FeatureExtractor):
    """64 features of 8x8 digits, of a network trained on the real ones; the weights are shipped."""

    name = "digits"

    def __init__(self) -> None:
        self.layers = {"features": WIDTH, "logits": 10}
        stored = WEIGHTS.read_bytes()
        self.sha256 = hashlib.sha256(stored).hexdigest()
        self.network = DigitNet()
        self.network.load_state_dict(load(stored))
        # float64: neither autocast nor TF32 nor the batch size then changes a feature, and the network is tiny
        self.network.double().eval().requires_grad_(False)

    def __call__(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Uint8 (B, 1, 8, 8) to float32 (B, 64) features and (B, 10) logits."""
        features = self.network.features(images)
        found = {"features": features, "logits": self.network.head(relu(features))}
        return {layer: found[layer].to(torch.float32) for layer in layers}

    def to(self, device: torch.device) -> FeatureExtractor:
        """The network moved to ``device``."""
        self.network.to(device)
        return self

    def protocol(self) -> dict[str, str]:
        """Name, weights, and that images are taken as they are."""
        return {"features": self.name, "features_sha256": self.sha256, "resize": "none"}

    def check(self, spec: DataSpec) -> None:
        """Accept 8 x 8 grey images only."""
        if tuple(spec.shape) != SHAPE:
            raise ValueError(
                f"features `digits` read images of shape {SHAPE}; got {tuple(spec.shape)};"
                " choose features made for these images"
            )
