"""The networks of LPIPS with random weights, in files of the real format."""

import hashlib
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.models as theirs

from dmf.plugins.metrics import _lpips

NETS = {"alex": theirs.alexnet, "vgg": theirs.vgg16, "squeeze": theirs.squeezenet1_1}


def trunk_file(net: str, folder: Path, seed: int = 0) -> Path:
    """A state dict of torchvision's network, its convolutions random, of the classifier nothing but the keys.

    The weights are wider than at the start of a training: what is seen then differs from image to image.
    """
    torch.manual_seed(seed)
    whole = NETS[net](weights=None).state_dict()
    kept = {}
    for key, value in whole.items():
        if key.startswith("features."):
            fan_in = value[0].numel() if value.ndim == 4 else 100
            kept[key] = torch.randn(value.shape) * (2 / fan_in) ** 0.5
        else:
            kept[key] = torch.zeros(1)
    file = folder / f"{net}.pth"
    torch.save(kept, file)
    return file


@pytest.fixture(scope="session", name="trunk_files")
def trunk_files_fixture(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of random weights for each network."""
    folder = tmp_path_factory.mktemp("trunks")
    return {net: trunk_file(net, folder) for net in NETS}


@pytest.fixture(name="random_trunks")
def random_trunks_fixture(trunk_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Random weights as if they were those that are published, where torchvision keeps them."""
    home = trunk_files["alex"].parent / "torch"
    monkeypatch.setenv("TORCH_HOME", str(home))
    placed = {}
    for net, file in trunk_files.items():
        trunk = _lpips.TRUNKS[net]  # type: ignore[index]
        digits = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
        monkeypatch.setitem(_lpips.TRUNKS, net, replace(trunk, published=replace(trunk.published, sha256=digits)))
        placed[net] = home / "hub" / "checkpoints" / trunk.published.name
        placed[net].parent.mkdir(parents=True, exist_ok=True)
        if not placed[net].exists():
            placed[net].symlink_to(file)
    return placed


def options_of(file: Path, **more: Any) -> dict[str, Any]:
    """What makes the metric take such a file."""
    return {"weights": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), **more}


def package(net: str, file: Path) -> torch.nn.Module:
    """The `lpips` package's own distance, of the same weights: put into torchvision's network before it is cut up."""
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torchvision's old way to say that no weights are wanted
        network = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    weights = torch.load(file)
    for part in (network.net.slice1, network.net.slice2, network.net.slice3, network.net.slice4, network.net.slice5):
        _fill(part, weights)
    for name in ("slice6", "slice7"):
        if hasattr(network.net, name):
            _fill(getattr(network.net, name), weights)
    return network.eval()


def _fill(part: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    for name, parameter in part.named_parameters():
        parameter.data.copy_(weights[f"features.{name}"])
