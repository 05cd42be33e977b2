"""LPIPS as a distance of vectors: images are mapped so that the squared distance of two vectors is the images' LPIPS.

Source: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (arXiv 1801.03924),
section 3, equation 1. The networks, and the linear heads of version 0.1, are those of the `lpips` package. Cost: one
pass of the network an image.
"""

from __future__ import annotations

import copy
import importlib.util
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...core.arithmetic import exact_float32
from ..features._weights import Published, sha256_of, tensors_in, weights_file
from ..features.fidelity import VGG16

VERSION = "0.1"  # of the heads; 0.0 had an error in the scale of images
EPS = 1e-10  # the package's, beside a norm
Net = Literal["alex", "vgg", "squeeze"]


@dataclass(frozen=True)
class Trunk:
    """A network that LPIPS looks through.

    Attributes:
        published: torchvision's weights, which the paper's networks have.
        least_side: The smallest image whose last layer still has a place.
    """

    published: Published
    least_side: int


def _torchvision(title: str, name: str, sha256: str, mib: int) -> Published:
    return Published(f"torchvision's {title}", name, (f"https://download.pytorch.org/models/{name}",), sha256, mib)


TRUNKS: dict[Net, Trunk] = {
    "alex": Trunk(_torchvision("AlexNet", "alexnet-owt-7be5be79.pth", "7be5be79", 233), 31),
    "vgg": Trunk(VGG16, 16),
    "squeeze": Trunk(_torchvision("SqueezeNet 1.1", "squeezenet1_1-b8a52dc0.pth", "b8a52dc0", 5), 17),
}


class Embedding:
    """The map from images to vectors, a layer's part of them after another.

    Args:
        net: Which network.
        weights: File with torchvision's weights of it; None looks where they are kept, and fetches them.
        sha256: Of such a file; None is that of the published one.

    Attributes:
        sha256: Of the weights.
        heads_sha256: Of the package's linear heads.
        published: Whether the weights are those of LPIPS, and not some that are like them.
    """

    def __init__(self, net: Net, weights: str | None, sha256: str | None) -> None:
        published = TRUNKS[net].published
        found = weights_file(published, weights, sha256)
        self.sha256, self.heads_sha256 = found.sha256, sha256_of(_heads_file(net))
        self.published = found.sha256.startswith(published.sha256)
        self.net, self.scaling, heads = _package_network(net)
        _load_trunk(self.net, tensors_in(found), published.title)
        self.heads = [_head(weight) for weight in heads]

    def to(self, device: torch.device) -> Embedding:
        """The same on ``device``."""
        self.net.to(device)
        self.scaling.to(device)
        self.heads = [(used.to(device), root.to(device)) for used, root in self.heads]
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Embedding:
        """Itself: copies of a metric look through one network."""
        return self

    def lengths(self, size: tuple[int, int]) -> list[int]:
        """Numbers that each layer gives of one image of ``size``, (H, W)."""
        bare = copy.deepcopy(self.net).to("meta")  # shapes alone
        layers = bare(torch.zeros(1, 3, *size, device="meta"))
        return [len(used) * f.shape[2] * f.shape[3] for (used, _), f in zip(self.heads, layers, strict=True)]

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Iterator[Tensor]:
        """The vectors of images x, (B, 3, H, W) in [-1, 1]: (B, D_l) float32 of each layer l in turn."""
        with exact_float32(x.device):
            layers = self.net(self.scaling(x))
        for (used, root), f in zip(self.heads, layers, strict=True):
            norm = f.square().sum(1, keepdim=True).sqrt()
            y = f[:, used] / (norm + EPS)  # (B, C', H_l, W_l), of unit length along all C channels
            # equation 1: d = sum_l 1 / (H_l W_l) sum_hw |w_l (y_hw - y0_hw)|^2; a head holds w_l^2
            yield (y * (root / (y.shape[2] * y.shape[3]) ** 0.5)).flatten(1)


def resized(x: Tensor, side: int | None) -> Tensor:
    """Images (B, C, H, W) as squares of ``side``, bilinear and antialiased; None leaves them."""
    if side is None or x.shape[2:] == (side, side):
        return x
    return interpolate(x, (side, side), mode="bilinear", antialias=True)


def _package_network(net: Net) -> tuple[torch.nn.Module, torch.nn.Module, list[Tensor]]:
    """The package's trunk, random as yet, the scaling of images before it, and the weights of the heads."""
    import lpips

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # of torchvision's old way to say that no weights are wanted
        network = lpips.LPIPS(net=net, version=VERSION, pnet_rand=True, verbose=False)
    network.requires_grad_(False).eval()
    return network.net, network.scaling_layer, [head.model[-1].weight for head in network.lins]


def _heads_file(net: Net) -> Path:
    found = importlib.util.find_spec("lpips")
    assert found is not None and found.origin is not None
    return Path(found.origin).parent / "weights" / f"v{VERSION}" / f"{net}.pth"


def _load_trunk(net: torch.nn.Module, weights: dict[str, Tensor], title: str) -> None:
    """Put torchvision's weights into the package's slices: ``features.3.bias`` there is ``slice2.3.bias`` here.

    Raises:
        ValueError: The file has not all of them.
    """
    own = net.state_dict()
    theirs = {key: f"features.{key.split('.', 1)[1]}" for key in own}
    wrong = [other for key, other in theirs.items() if other not in weights or weights[other].shape != own[key].shape]
    if wrong:
        raise ValueError(
            f"weights: the file is not a state dict of {title}: {len(wrong)} of {len(own)} tensors are missing or have "
            f"another shape, {wrong[0]} first"
        )
    net.load_state_dict({key: weights[other].to(torch.float32) for key, other in theirs.items()})


def _head(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The channels of a head (1, C, 1, 1) that count at all, (C',), and the roots of their weights, (1, C', 1, 1)."""
    assert (weight >= 0).all(), "a head below 0 makes no distance"
    used = weight.flatten().nonzero().flatten()
    return used, weight[:, used].sqrt()
