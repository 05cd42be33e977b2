"""Features of torch-fidelity's other networks: VGG16, CLIP, DINOv2, with its resize and its normalisation.

Source: Simonyan & Zisserman 2014 (arXiv 1409.1556), which Kynkäänniemi et al. 2019 (arXiv 1904.06991) measure
precision and recall on; Radford et al. 2021 (arXiv 2103.00020); Oquab et al. 2023 (arXiv 2304.07193), on which Stein et
al. 2023 (arXiv 2306.04675) find that distances follow people's judgement better than on Inception. Cost: 31 GFLOP an
image for vgg16, from 9 to 600 for the others.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ...core import DataSpec, FeatureExtractor
from ._dinov2 import DINOv2
from ._exact import exactly, moved
from ._preparation import Preparation
from ._rgb import check_rgb, rgb
from ._weights import Published, Weights, tensors_in, weights_file

Model = Literal[
    "vgg16",
    "clip-rn50",
    "clip-rn101",
    "clip-rn50x4",
    "clip-rn50x16",
    "clip-rn50x64",
    "clip-vit-b-32",
    "clip-vit-b-16",
    "clip-vit-l-14",
    "clip-vit-l-14-336px",
    "dinov2-vit-s-14",
    "dinov2-vit-b-14",
    "dinov2-vit-l-14",
    "dinov2-vit-g-14",
]
CLIP_MIB = {
    "clip-rn50": 244,
    "clip-rn101": 278,
    "clip-rn50x4": 402,
    "clip-rn50x16": 630,
    "clip-rn50x64": 1290,
    "clip-vit-b-32": 338,
    "clip-vit-b-16": 335,
    "clip-vit-l-14": 890,
    "clip-vit-l-14-336px": 891,
}
DINOV2 = {  # torch-fidelity executes code of a repository to make them; we have the network, and need the weights alone
    "dinov2-vit-s-14": ("vits14", "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9", 84),
    "dinov2-vit-b-14": ("vitb14", "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73", 330),
    "dinov2-vit-l-14": ("vitl14", "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428", 1161),
    "dinov2-vit-g-14": ("vitg14", "baf8467e50af277596bbbafa06887c177ee899ab46033649c383577d7e9309d3", 4335),
}
VGG16 = Published(
    "torchvision's VGG16",
    "vgg16-397923af.pth",
    ("https://download.pytorch.org/models/vgg16-397923af.pth",),
    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    528,
)
SIDE = 224
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and deviation of its pixels, in [0, 1]


class Network(NamedTuple):
    """A network with its layers.

    Attributes:
        module: From uint8 (B, 3, H, W), float32 by name: `look` knows how it is asked.
        layers: Length of each.
        side: Pixels that images are resized to.
        look: Of the module, images and names of layers.
    """

    module: nn.Module
    layers: Mapping[str, int]
    side: int
    look: Callable[[Any, Tensor, Sequence[str]], dict[str, Tensor]]


class Fidelity(FeatureExtractor):
    """VGG16, CLIP or DINOv2, as torch-fidelity has them; grey images in three equal channels.

    Layers: ``fc2_relu`` and ``fc2`` of vgg16, ``clip``, ``dinov2``. Images of any size, resized as TensorFlow 1 did it,
    to the side that the network reads.

    Args:
        model: Which, by torch-fidelity's name.
        weights: The file; null looks for it in the cache and in torch's folder, and downloads it otherwise. VGG16:
            vgg16-397923af.pth of torchvision; CLIP: OpenAI's TorchScript file; DINOv2: Meta's, of the backbone only.
        sha256: Of the file, if it holds other weights than the published ones; results then have another name.
    """

    libraries = ("torch-fidelity", "torchvision")

    def __init__(self, *, model: Model, weights: str | None = None, sha256: str | None = None) -> None:
        whose = published(model)
        found = weights_file(whose, weights, sha256)
        self.sha256, self.network = found.sha256, load(model, found)
        self.layers = dict(self.network.layers)
        own = "" if found.sha256.startswith(whose.sha256) else f"_{found.sha256[:8]}"
        self.name = model.replace("-", "_") + own

    def __call__(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Features of uint8 (B, C, H, W), C being 1 or 3."""
        with exactly(images.device):
            found = self.network.look(self.network.module, rgb(images), layers)
        return {layer: found[layer] for layer in layers}

    def to(self, device: torch.device) -> FeatureExtractor:
        """The network moved to ``device``."""
        moved(self.network.module, device)
        return self

    def protocol(self) -> dict[str, str]:
        """Name, weights, resize."""
        side = self.network.side
        return {
            "features": self.name,
            "features_sha256": self.sha256,
            "resize": f"bilinear as TensorFlow 1, to {side} x {side}, not antialiased",
        }

    def check(self, spec: DataSpec) -> None:
        """Accept images of one or three channels."""
        check_rgb(self.name, spec)


def published(model: Model) -> Published:
    """Whose weights a model has."""
    if model == "vgg16":
        return VGG16
    if model in DINOV2:
        name, sha256, mib = DINOV2[model]
        address = f"https://dl.fbaipublicfiles.com/dinov2/dinov2_{name}/dinov2_{name}_pretrain.pth"
        return Published(f"DINOv2's {name}", f"dinov2_{name}_pretrain.pth", (address,), sha256, mib)
    from torch_fidelity.feature_extractor_clip import MODEL_METADATA, MODEL_URLS  # late: it imports much

    sha256 = MODEL_METADATA[model]["hash"]
    title = f"CLIP's {MODEL_METADATA[model]['filename']}"
    return Published(title, f"{model}-{sha256}.pt", (MODEL_URLS[model],), sha256, CLIP_MIB[model])


def load(model: Model, weights: Weights) -> Network:
    """The network of a model with these weights, in eval mode, not to be trained.

    Raises:
        ValueError: They are of another network.
    """
    make = _vgg16 if model == "vgg16" else _dinov2 if model in DINOV2 else _clip
    try:
        return make(model, weights)
    except (RuntimeError, KeyError) as error:
        lines = str(error).strip().splitlines()[:4]
        said = "; ".join(line.strip()[:90] for line in lines)
        raise ValueError(
            f"weights: {weights.file} does not fit {model}: {type(error).__name__}: {said}; take "
            f"{published(model).addresses[0]}"
        ) from error


def _vgg16(model: Model, weights: Weights) -> Network:
    """torch-fidelity's own, which unpickles what it is given: that shall be tensors."""
    from torch_fidelity import FeatureExtractorVGG16

    saved = io.BytesIO()
    torch.save(tensors_in(weights), saved)
    saved.seek(0)
    module = FeatureExtractorVGG16(model, ["fc2_relu"], feature_extractor_weights_path=saved)
    width = module.model.classifier[-1].out_features
    return Network(module, {"fc2_relu": width, "fc2": width}, SIDE, _theirs)


def _clip(model: Model, weights: Weights) -> Network:
    """torch-fidelity's own, of a TorchScript file: its tensors are read, and none of its code is called."""
    from torch_fidelity import FeatureExtractorCLIP

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", FutureWarning
        )  # torch would have another format, and these files are as they are
        module = FeatureExtractorCLIP(model, ["clip"], feature_extractor_weights_path=str(weights.file))
    return Network(module, {"clip": module.model.visual.output_dim}, module.resolution, _theirs)


def _dinov2(model: Model, weights: Weights) -> Network:
    module = DINOv2(tensors_in(weights))
    return Network(module, {"dinov2": module.width}, SIDE, partial(_prepared, Preparation(3, SIDE, *IMAGENET)))


def _theirs(module: Any, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    module.features_list = list(layers)
    return dict(zip(layers, module(images), strict=True))


def _prepared(prepare: Preparation, module: Any, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """Resized and normalised as torch-fidelity does it for DINOv2."""
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    x = interpolate_bilinear_2d_like_tensorflow1x(images.to(torch.float32), size=(SIDE, SIDE), align_corners=False)
    token = module(prepare.normalised(x))
    return dict.fromkeys(layers, token)
