"""What `dmf bench metrics` measures with: networks of random weights in files, features, torch-fidelity's own steps."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import relu

WIDTHS = (16, 32, 64)
SEED = 0
RANK = 64  # directions that features share, as those of images do


def write_resnet(file: Path) -> dict[str, Any]:
    """A ResNet-20 for CIFAR (He et al. 2016, section 4.2) of random weights; options of the features ``classifier``."""
    random, state = torch.Generator().manual_seed(SEED), dict[str, Tensor]()

    def layer(place: str, number: str, inside: int, outside: int) -> None:
        weight = torch.randn(outside, inside, 3, 3, generator=random) * (2 / (9 * inside)) ** 0.5
        state[f"{place}conv{number}.weight"] = weight
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            state[f"{place}bn{number}.{name}"] = torch.full((outside,), value)

    layer("", "1", 3, WIDTHS[0])
    for stage, (before, width) in enumerate(zip((WIDTHS[0], *WIDTHS), WIDTHS, strict=False), 1):
        for block in range(3):
            layer(f"layer{stage}.{block}.", "1", before if block == 0 else width, width)
            layer(f"layer{stage}.{block}.", "2", width, width)
    state["linear.weight"] = torch.randn(10, WIDTHS[-1], generator=random) / WIDTHS[-1] ** 0.5
    state["linear.bias"] = torch.zeros(10)
    save_file(state, file)
    return {"path": str(file), "architecture": "resnet20"}


def write_inception(file: Path) -> dict[str, Any]:
    """torch-fidelity's Inception with random weights; gives the options of the features ``inception``."""
    from torch_fidelity import FeatureExtractorInceptionV3

    class Bare(FeatureExtractorInceptionV3):  # type: ignore[misc]
        def load_state_dict(self, state: Any, strict: bool = True, assign: bool = False) -> None:
            """Keeps what it was made with."""

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = Bare("inception-v3-compat", ["2048"], feature_extractor_weights_path=nothing)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
    torch.save(network.state_dict(), file)
    return {"weights": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def features(start: int, count: int, dim: int, side: int) -> Tensor:
    """Rows of a made set of features, float32 (count, dim): no less than 0, alike in some directions, none singular.

    Args:
        start: Number of the first; the same rows come whatever the batches.
        count: How many; ``start`` is a multiple of it.
        dim: Length of each.
        side: 0 or 1: two sets that differ.
    """
    shared = torch.Generator().manual_seed(SEED)
    directions = torch.randn(RANK, dim, generator=shared) / RANK**0.5
    own = torch.Generator().manual_seed(1 + 2 * start + side)
    mixed = torch.randn(count, RANK, generator=own) @ directions
    return relu(mixed + 0.3 * torch.randn(count, dim, generator=own) + 0.5 + 0.02 * side)


def their_distance(made: Tensor, real: Tensor) -> float:
    """torch-fidelity's Fréchet distance of features (N, D) and (M, D), statistics included."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    found = fid_statistics_to_metric(fid_features_to_statistics(made), fid_features_to_statistics(real), False)
    return float(found[KEY_METRIC_FID])
