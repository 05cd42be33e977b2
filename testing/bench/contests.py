"""Our backbones beside networks of diffusers (von Platen et al. 2022) of the same size, and scans beside recurrences.

Each contest is two networks that see the same input. The U-Net is DDPM's for CIFAR-10 in both libraries, with as many
weights. The DiT is DiT-S/2 on 4 x 32 x 32 latents; theirs embeds noise level and class anew in every layer, so ours
meets it twice: with as many layers, and with the number of them that comes nearest in weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...core import DataSpec
from ...registry import build
from .others import diffusers

Inputs = tuple[Tensor, Tensor, Mapping[str, Tensor]]
CLASSES = tuple(map(str, range(10)))
PIXELS, LATENTS = DataSpec((3, 32, 32)), DataSpec((4, 32, 32), CLASSES)
SMALL = {"hidden": 64, "depth": 1, "patch": 1, "local": 0}  # 32 x 32 patches are a row of 1024 and some
INSIDE = " in a DiM of one block on 1024 patches; the whole network is timed, so of the scans alone the ratio is larger"


@dataclass(frozen=True)
class Side:
    """One network of a contest.

    Attributes:
        name: For the table.
        network: It, fresh, on the CPU.
        call: (network, x, noise, cond) -> output.
    """

    name: str
    network: nn.Module
    call: Callable[..., Tensor]


@dataclass(frozen=True)
class Contest:
    """Two networks for the same data.

    Attributes:
        name: For `dmf bench backbones --networks`.
        spec: The data.
        sides: Makes ours and the other.
        title: What is compared, in words.
    """

    name: str
    spec: DataSpec
    sides: Callable[[], tuple[Side, Side]] = field(repr=False)
    title: str

    def inputs(self, batch: int, device: torch.device) -> Inputs:
        """Noise for images, noise labels, and classes where the data has some."""
        random = torch.Generator().manual_seed(0)
        x = torch.randn(batch, *self.spec.shape, generator=random).to(device)
        noise = 999 * torch.rand(batch, generator=random).to(device)
        classes = {"class": (torch.arange(batch) % len(CLASSES)).to(device)}
        return x, noise, classes if self.spec.classes else {}


def contests() -> dict[str, Contest]:
    """All of them, by name."""
    found = [
        Contest("unet", PIXELS, _unets, "DDPM's U-Net for CIFAR-10, against diffusers' UNet2DModel"),
        Contest("dit", LATENTS, _dits, "DiT-S/2, against diffusers' DiTTransformer2DModel of as many layers"),
        Contest("dit_by_size", LATENTS, _dits_by_size, "DiT-S/2, against theirs of as many parameters"),
        Contest("mamba1", PIXELS, lambda: _scans("mamba1"), "Mamba-1's scan" + INSIDE),
        Contest("mamba2", PIXELS, lambda: _scans("mamba2"), "Mamba-2's scan" + INSIDE),
    ]
    return {contest.name: contest for contest in found}


def _ours(name: str, spec: DataSpec, label: str, **options: Any) -> Side:
    network: nn.Module = build("backbone", name, spec, **options)
    return Side(label, network, lambda network, x, noise, cond: network(x, noise, cond))


def _unets() -> tuple[Side, Side]:
    theirs = diffusers().UNet2DModel(
        sample_size=32,
        block_out_channels=(128, 256, 256, 256),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=None,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
    )

    def call(network: nn.Module, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        out: Tensor = network(x, noise, return_dict=False)[0]
        return out

    return _ours("unet", PIXELS, "`unet`", dropout=0.0), Side("UNet2DModel", theirs, call)


def _dits() -> tuple[Side, Side]:
    return _our_dit(), Side("DiTTransformer2DModel, 12 layers", _their_dit(12), _call_dit)


def _dits_by_size() -> tuple[Side, Side]:
    ours = _our_dit()
    want = parameters(ours.network)
    layers = min(range(8, 13), key=lambda n: abs(_their_size(n) - want))
    return ours, Side(f"DiTTransformer2DModel, {layers} layers", _their_dit(layers), _call_dit)


def _our_dit() -> Side:
    return _ours("dit", LATENTS, "`dit`, 12 layers", size="S", patch=2, learned_variance=True)


def _their_dit(layers: int) -> nn.Module:
    network: nn.Module = diffusers().DiTTransformer2DModel(
        num_attention_heads=6,
        attention_head_dim=64,
        in_channels=4,
        out_channels=8,
        num_layers=layers,
        sample_size=32,
        patch_size=2,
        num_embeds_ada_norm=len(CLASSES),
    )
    return network


def _their_size(layers: int) -> int:
    with torch.device("meta"):
        return parameters(_their_dit(layers))


def _call_dit(network: nn.Module, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
    out: Tensor = network(x, timestep=noise, class_labels=cond["class"], return_dict=False)[0]
    return out


def _scans(layer: str) -> tuple[Side, Side]:
    """The recurrence and the scan that takes its place, in the same network."""
    chunked, recurrence = (
        _ours("dim", PIXELS, f"`dim`, backend {backend}", layer=layer, backend=backend, **SMALL)
        for backend in ("torch", "reference")
    )
    return chunked, recurrence


def parameters(network: nn.Module) -> int:
    """All of them."""
    return sum(p.numel() for p in network.parameters())
