"""Features of the Inception v3 of FID: torch-fidelity's network, with its resize and its normalisation.

Source: Szegedy et al. 2015, "Rethinking the Inception Architecture" (arXiv 1512.00567), the TensorFlow weights of
2015-12-05 that Heusel et al. 2017 (arXiv 1706.08500) use, as converted by torch-fidelity (Obukhov et al. 2020); the
spatial layer is that of Nash et al. 2021 (arXiv 2103.03841). Cost: about 12 GFLOP an image.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...core import DataSpec, FeatureExtractor
from ._exact import exactly, moved
from ._rgb import check_rgb, rgb
from ._weights import Published, Weights, tensors_in, weights_file

INCEPTION = Published(
    "torch-fidelity's Inception v3",
    "weights-inception-2015-12-05-6726825d.pth",
    (
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        # the same bytes under the name that pytorch-fid gives them
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    ),
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    91,
)
SIDE = 299  # pixels that the network reads
SPATIAL = (7, 17, 17)  # the first channels of mixed_6/conv, as many as make about 2048 features
LAYERS = {
    "2048": 2048,
    "logits_unbiased": 1008,
    "logits": 1008,
    "768": 768,
    "192": 192,
    "64": 64,
    "spatial": 7 * 17 * 17,
}


class Inception(FeatureExtractor):
    """Inception v3 with the weights that FID, KID and the Inception Score mean; grey images in three equal channels.

    The first layer, ``2048``, is what FID and KID look at, ``logits_unbiased`` what the Inception Score does,
    ``spatial`` what sFID does. Images of any size, resized to 299 x 299 as TensorFlow 1 did it.

    Args:
        weights: The file weights-inception-2015-12-05-6726825d.pth; null looks for it in the cache and in torch's
            folder, and downloads it otherwise, 91 MiB.
        sha256: Of the file, if it holds other weights than the published ones; results then have another name.
    """

    libraries = ("torch-fidelity",)

    def __init__(self, *, weights: str | None = None, sha256: str | None = None) -> None:
        found = weights_file(INCEPTION, weights, sha256)
        self.sha256, self.layers = found.sha256, dict(LAYERS)
        self.name = "inception" if found.sha256 == INCEPTION.sha256 else f"inception_{found.sha256[:8]}"
        self.network = load(found)

    def __call__(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Features of uint8 (B, C, H, W), C being 1 or 3, of all layers in one pass."""
        seen: list[Tensor] = []
        # the 1 x 1 branch of Mixed_6d, which TensorFlow's graph calls mixed_6/conv
        watch = self.network.Mixed_6d.branch1x1.register_forward_hook(lambda module, args, out: seen.append(out))
        try:
            with exactly(images.device):
                found = self._pooled(rgb(images), layers)
        finally:
            watch.remove()
        if "spatial" in layers:
            channels = SPATIAL[0]
            # (B, 192, 17, 17) to (B, 17 * 17 * 7), channels last, as TensorFlow has them
            found["spatial"] = seen[0][:, :channels].permute(0, 2, 3, 1).flatten(1).contiguous()
        return {layer: found[layer] for layer in layers}

    def _pooled(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """The layers that torch-fidelity's network gives itself; at least one, so that it goes as far as Mixed_6d."""
        asked = {layer for layer in layers if layer != "spatial"} or {"768"}
        if "logits" in asked:
            asked.add("logits_unbiased")  # with it logits come of the same sum, asked for alone or not
        self.network.features_list = sorted(asked)
        return dict(zip(self.network.features_list, self.network(images), strict=True))

    def to(self, device: torch.device) -> FeatureExtractor:
        """The network moved to ``device``."""
        moved(self.network, device)
        return self

    def protocol(self) -> dict[str, str]:
        """Name, weights, resize."""
        return {
            "features": self.name,
            "features_sha256": self.sha256,
            "resize": f"bilinear as TensorFlow 1, to {SIDE} x {SIDE}, not antialiased",
        }

    def check(self, spec: DataSpec) -> None:
        """Accept images of one or three channels."""
        check_rgb(self.name, spec)


def load(weights: Weights) -> Any:
    """torch-fidelity's network with these weights, in eval mode, not to be trained.

    Raises:
        ValueError: They are of another network.
    """
    from torch_fidelity import FeatureExtractorInceptionV3  # late: it imports much

    saved = io.BytesIO()  # it unpickles what it is given, which shall be tensors
    torch.save(tensors_in(weights), saved)
    saved.seek(0)
    try:
        return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=saved)
    except RuntimeError as error:
        said = "; ".join(line.strip()[:90] for line in str(error).splitlines()[1:4])
        raise ValueError(
            f"weights: {weights.file} does not fit torch-fidelity's Inception v3 (torchvision's has other layers): "
            f"{said}; take {INCEPTION.name} of {INCEPTION.addresses[0]}"
        ) from error
