"""Features of a classifier of yours: what it sees before its last layer, its logits, or what any of its modules gives.

That a network trained to tell classes apart measures likeness as people see it: Zhang et al. 2018 (arXiv 1801.03924),
section 4; distances of distributions on such features: Heusel et al. 2017 (arXiv 1706.08500), section 3. Cost: one pass
of the network over each image.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from ...core import DataSpec, FeatureExtractor, probe
from ...files.places import home
from ._exact import exactly, moved
from ._layers import Layers
from ._networks import network_in
from ._preparation import Preparation

Numbers: TypeAlias = tuple[float, ...]
Scales: TypeAlias = tuple[Annotated[float, Gt(0)], ...]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels, which most classifiers are told
SIDES = (32, 224, 64, 128, 299, 28, 8)  # pixels; tried in turn to see a network's layers, where no size is given


class Classifier(FeatureExtractor):
    """Any image classifier by path: TorchScript, or weights (safetensors, a state dict) of a known architecture.

    Layers: ``features``, the input of the last linear layer, and ``logits``; then every module by its name, maps
    averaged over their pixels. TorchScript has its ``output`` alone. Grey images become three equal channels for a
    network that reads colour. Arithmetic is float32, without autocast and TF32.

    Args:
        path: The file. TorchScript; or ``.safetensors`` or a state dict of torch's, also one under ``state_dict``, its
            names with ``module.`` before them or without.
        architecture: Whose weights they are: a classifier of torchvision, such as ``resnet50``, or ``resnet20``,
            ``resnet32``, ``resnet44``, ``resnet56``, ``resnet110`` for those for CIFAR; null for TorchScript.
        sha256: Of the file, all 64 digits or at least the first 8; another file is refused.
        size: Side in pixels to which images are resized, antialiased bicubic; null takes them as they are.
        mean: What is subtracted from images in [0, 1], one number or one a channel; null, with ``std: null``, gives the
            network bytes, uint8.
        std: What they are divided by after that.
        channels: That the network reads; null looks at its first convolution.
        called: What results are called after; null takes the file's name.
    """

    libraries = ("torchvision",)

    def __init__(
        self,
        *,
        path: str,
        architecture: str | None = None,
        sha256: str | None = None,
        size: Annotated[int, Ge(1)] | None = None,
        mean: Numbers | None = MEAN,
        std: Scales | None = STD,
        channels: Literal[1, 3] | None = None,
        called: str | None = None,
    ) -> None:
        file = home(path)
        found = network_in(file, sha256, architecture)
        self._network, self.sha256, self.kind = found.network, found.sha256, found.kind
        self.name = _fit(file.stem if called is None else called)
        self._prepare = Preparation(channels or _channels(found.network), size, mean, std)
        self._layers = self._look()
        self.layers = self._layers.sizes

    def __call__(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Float32 (B, D) for each of ``layers`` of uint8 images (B, C, H, W)."""
        with exactly(images.device):
            return self._layers(self._prepare(images), layers)

    def to(self, device: torch.device) -> FeatureExtractor:
        """The network moved to ``device``."""
        moved(self._network, device)
        return self

    def protocol(self) -> dict[str, str]:
        """Name, weights, architecture, and what is done to the images."""
        named = {"features": self.name, "features_sha256": self.sha256, "architecture": self.kind}
        return {**named, **self._prepare.protocol()}

    def check(self, spec: DataSpec) -> None:
        """Accept images that the network turns into the vectors that it is known to give."""
        self._prepare.check(self.name, spec)
        try:
            probe(self, spec, (next(iter(self.layers)),))
        except ValueError as error:
            resized = "" if self._prepare.size else "; the option size resizes images to what the network reads"
            raise ValueError(f"{error}{resized}") from error

    def _look(self) -> Layers:
        """The network's layers, seen on two grey images of the first side that it reads."""
        refused: Exception | None = None
        for side in SIDES if self._prepare.size is None else (self._prepare.size,):
            images = torch.full((2, self._prepare.channels, side, side), 128, dtype=torch.uint8)
            try:
                with exactly(images.device):
                    return Layers(self._network, self._prepare(images))
            except RuntimeError as error:  # it does not read images of this size
                refused = refused or error
        lines = str(refused).strip().splitlines()
        raise ValueError(
            f"the network gives nothing for images of {self._prepare.channels} channel(s) and side "
            f"{self._prepare.size or ', '.join(map(str, SIDES))}: {lines[-1] if lines else refused}; "
            "write the size and channels that it reads"
        )


def _channels(network: nn.Module) -> int:
    """Of the images that a network reads, seen in its first convolution."""
    for weight in network.parameters():
        if weight.dim() == 4:
            return int(weight.shape[1])
    raise ValueError("channels: the network shows no convolution to see them in; write how many it reads, 1 or 3")


def _fit(name: str) -> str:
    """A name that may stand in those of results, which trackers allow few characters."""
    return re.sub(r"[^A-Za-z0-9_.\-]+", "_", name) or "classifier"
