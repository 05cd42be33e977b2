"""What the tests of latents share: an autoencoder of diffusers with weights of chance, and a codec that needs none."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from dmf.core import Codec, DataSpec, InMemory, Pixels
from dmf.registry.recipe_types import Loading
from dmf.runner.feed import Resident, Source
from dmf.runner.latents.feed import latent_source
from dmf.runner.latents.fill import Filler, remake
from dmf.runner.latents.store import Contents, Store
from dmf.runner.signals import Signals
from dmf.runner.world import World

WEIGHTS = "diffusion_pytorch_model.safetensors"
SETTINGS: dict[str, Any] = {"block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 4}
ON_DISK = Loading(device_gib=0)
ALONE = World(0, 1, torch.device("cpu"))
SPEC = DataSpec((3, 8, 12), ("cat", "dog"))


def make_autoencoder(folder: Path, seed: int = 0, **settings: Any) -> Path:
    """An AutoencoderKL as diffusers saves it."""
    import diffusers

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = diffusers.AutoencoderKL(**{**SETTINGS, **blocks, **settings})  # type: ignore[no-untyped-call]
    network.save_pretrained(folder)
    return folder


class Pooled(Codec):
    """Means of 2 x 2 pixels, and a log-variance that goes with them."""

    def __init__(self, spec: DataSpec) -> None:
        channels, height, width = spec.shape
        super().__init__(DataSpec((channels, height // 2, width // 2), spec.classes, spec.cond))
        self.moment_shape = (2 * channels, height // 2, width // 2)
        self.pixels, self.encoded = Pixels(spec), 0

    def moments(self, images: Tensor) -> Tensor:
        self.encoded += len(images)
        mean = avg_pool2d(self.pixels.encode(images), 2)
        return torch.cat([mean, mean - 3], 1)

    def draw(self, moments: Tensor, eps: Tensor) -> Tensor:
        mean, log_variance = moments.chunk(2, 1)
        return mean + (log_variance / 2).exp() * eps

    def encode(self, images: Tensor) -> Tensor:
        return self.moments(images).chunk(2, 1)[0]

    def decode(self, x: Tensor) -> Tensor:
        return self.pixels.decode(interpolate(x, scale_factor=2.0))

    def facts(self) -> dict[str, str]:
        return {"weights": "none"}


def pictures(count: int = 23) -> InMemory:
    """Noise, labelled."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, *SPEC.shape), dtype=torch.uint8, generator=random)
    return InMemory(SPEC, images, {"class": torch.arange(count) % 2})


def contents(data: InMemory, mirrored: bool = False, dtype: str = "float32") -> Contents:
    shape = Pooled(data.spec).moment_shape
    assert shape is not None
    forms: dict[str, tuple[tuple[int, ...], str]] = {"class": ((), "int64")}
    return Contents("pooled", {}, data.fingerprint(), len(data), mirrored, shape, dtype, forms)


def store(data: InMemory, folder: Path, per_shard: int = 5, **how: Any) -> Store:
    """The cache of some pictures, ``per_shard`` in each shard."""
    made_of = contents(data, **how)
    found = Store(made_of, folder, per_shard * made_of.image_bytes / 2**20, {})
    found.look()
    return found


def filled(data: InMemory, stores: list[Store], codec: Codec | None = None) -> list[Store]:
    """The caches, whole."""
    Filler(stores, Resident(*data.tensors(), ALONE.device), codec or Pooled(data.spec), ALONE, Signals()).run()
    return stores


def source(data: InMemory, stores: list[Store], codec: Codec | None = None, loading: Loading = ON_DISK) -> Source:
    """What a feed reads of them."""
    images = Resident(*data.tensors(), ALONE.device)
    return latent_source(
        stores, ALONE.device, loading, partial(remake, source=images, codec=codec or Pooled(data.spec))
    )
