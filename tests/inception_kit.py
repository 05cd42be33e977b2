"""Inception without its weights: the whole network with random ones in a file, and a tiny one that stands in for it."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch_fidelity import feature_extractor_inceptionv3 as theirs

from dmf.files.cache import cache_folder
from dmf.plugins.features import inception

USERS = ("inception", "inception_score", "fid", "kid", "sfid")  # parts that ask for it without being told to
TINY = {"2048": 12, "logits_unbiased": 9, "logits": 9, "768": 8, "192": 7, "64": 6, "spatial": 28}


class Random(NamedTuple):
    """A file of random weights.

    Attributes:
        file: In torch-fidelity's format.
        sha256: Its hash.
    """

    file: str
    sha256: str

    @property
    def features(self) -> dict[str, str]:
        """As a recipe names it."""
        return {"name": "inception", "weights": self.file, "sha256": self.sha256}


@pytest.fixture(scope="session", name="random_inception")
def random_inception_fixture(tmp_path_factory: pytest.TempPathFactory) -> Random:
    """The whole network's, made once."""
    file = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.save(random_weights(), file)
    return Random(str(file), hashlib.sha256(file.read_bytes()).hexdigest())


@cache
def random_weights() -> dict[str, Tensor]:
    """A state dict of torch-fidelity's network; each layer keeps about the scale of what goes in."""

    class Bare(theirs.FeatureExtractorInceptionV3):  # type: ignore[misc]
        def load_state_dict(self, state: Any, strict: bool = True, assign: bool = False) -> None: ...

    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        patch.setattr(theirs, "load_state_dict_from_url", lambda *args, **kwargs: {})
        torch.manual_seed(0)
        network = Bare("inception-v3-compat", ["2048"])
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        # its features are much alike, and so the classes would be: they shall see what is not, and be sure of it
        f = network(torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8))[0].mean(0)
        network.fc.weight -= torch.outer(network.fc.weight @ f, f) / f.square().sum()
        network.fc.weight *= 20
    return dict(network.state_dict())


class Tiny(nn.Module):
    """What dmf asks of torch-fidelity's network, of means of 4 x 4 patches."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            sizes = {name: size for name, size in TINY.items() if name != "spatial"}
            self.maps = nn.ModuleDict({name: nn.Linear(48, size) for name, size in sizes.items()})
            self.Mixed_6d = nn.ModuleDict({"branch1x1": nn.Conv2d(3, 9, 1)})
        self.features_list: Sequence[str] = ()
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = nn.functional.adaptive_avg_pool2d(images.to(torch.float32) / 128 - 1, 4)  # (B, 3, 4, 4)
        self.Mixed_6d.branch1x1(x[:, :, :2, :2])
        return tuple(self.maps[name](x.flatten(1)) for name in self.features_list)


@pytest.fixture(name="tiny_inception")
def tiny_inception_fixture(monkeypatch: pytest.MonkeyPatch, own_cache: None) -> Path:
    """Inception's weights lie in the cache, and are those of a tiny network, so that nothing is fetched or slow."""
    file = cache_folder("weights") / inception.INCEPTION.name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"tiny")
    sha256 = hashlib.sha256(b"tiny").hexdigest()
    monkeypatch.setattr(inception, "INCEPTION", replace(inception.INCEPTION, sha256=sha256))
    monkeypatch.setattr(inception, "LAYERS", TINY)
    monkeypatch.setattr(inception, "load", lambda weights: Tiny())
    return file
