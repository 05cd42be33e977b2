"""DiM: state-space layers over patches, in scans of several directions; linear in their number, without attention.

Source: Teng et al. 2024, "DiM: Diffusion Mamba for Efficient High-Resolution Image Synthesis" (arXiv 2405.14224),
section 3. The layers are Mamba's (arXiv 2312.00752) or Mamba-2's (arXiv 2405.21060). Long skips as in U-ViT, Bao et al.
2022 (arXiv 2209.12152); one modulation for all blocks, each with an offset, as in PixArt, Chen et al. 2023 (arXiv
2310.00426), section 2.3, "adaLN-single"; both directions in a block as in Vision Mamba, Zhu et al. 2024 (arXiv
2401.09417).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, MinLen
from torch import Tensor, nn
from torch.nn.functional import silu

from ...core import Backbone, DataSpec, Scan
from ...core.scans import Column, Raster
from ._checks import at_least_one
from ._conditioning import Conditioning
from ._modulation import gated, modulate
from ._patches import Patches, Unpatch
from ._rows import Row
from .mamba import Backend, Mamba, Mamba2, resolve

SIZES = {"S": (512, 25), "L": (1024, 49), "H": (1536, 49)}  # hidden, depth
SCANS = (Raster(), Raster(reverse=True), Column(), Column(reverse=True))  # section 3.2; 25 and 49 end in the first
NOISE_FREQUENCIES = 256
HEAD = 64  # channels; Mamba-2's
EPS = 1e-6


class Local(nn.Module):
    """A depthwise convolution over the grid of patches, added to what came: what a row has torn apart.

    Args:
        width: D, of a token.
        kernel: Odd.
        rows: Of patches.
        columns: Likewise.
    """

    def __init__(self, width: int, kernel: int, rows: int, columns: int) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns
        self.conv = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) to the same."""
        image = tokens.transpose(1, 2).reshape(len(tokens), -1, self.rows, self.columns)  # (B, D, rows, columns)
        added: Tensor = self.conv(image).flatten(2).transpose(1, 2)
        return tokens + added


class Block(nn.Module):
    """State-space layers over rows of the tokens, normalised, modulated, gated and added.

    Args:
        rows: How each layer reads the tokens.
        layers: One for each row; their results are summed.
        hidden: D.
        joins: Whether an earlier block's input comes in too.
    """

    def __init__(self, rows: list[Row], layers: list[nn.Module], hidden: int, joins: bool) -> None:
        super().__init__()
        self.join = nn.Linear(2 * hidden, hidden) if joins else None
        self.norm = nn.RMSNorm(hidden, eps=EPS, elementwise_affine=False)
        self.offsets = nn.Parameter(torch.zeros(3, hidden))
        self.rows, self.layers = nn.ModuleList(rows), nn.ModuleList(layers)

    def forward(self, x: Tensor, modulation: Tensor, skip: Tensor | None = None) -> Tensor:
        """Tokens (B, 1 + N, D), all blocks' modulation (B, 3, D) and an earlier input to tokens."""
        if self.join is not None:
            assert skip is not None
            x = self.join(torch.cat([x, skip], dim=2))
        shift, scale, gate = (modulation + self.offsets).unbind(1)
        seen, changes = modulate(self.norm(x), shift, scale), []
        for row, layer in zip(self.rows, self.layers, strict=True):
            assert isinstance(row, Row)
            changes.append(row.back(layer(row(seen))))
        return gated(x, gate, sum(changes[1:], changes[0]))


class DiM(Backbone):
    """Diffusion Mamba: selective state-space layers over patches, their scan turning from block to block.

    Args:
        spec: Images or latents, with or without classes and vectors.
        size: Preset of `hidden` and `depth`: S is 512 and 25 (51 M weights on CIFAR-10), L 1024 and 49 (385 M on
            ImageNet's 32 x 32 latents), H 1536 and 49 (861 M).
        hidden: Width of a token; null is the preset's.
        depth: Number of blocks; null is the preset's.
        patch: Side of a patch in pixels (or latents); divides height and width.
        layer: `mamba1`, the paper's, or `mamba2`, whose scan is matrix products.
        state: Numbers that a channel remembers; null is 16 for `mamba1`, 64 for `mamba2`.
        conv: Tokens under the causal convolution before a scan.
        expand: Channels inside a layer, as a multiple of `hidden`.
        head: Channels of a head of `mamba2`, a divisor of `expand` times `hidden`; null is 64. `mamba1` has no heads.
        scans: Block i reads the patches by number i mod their number; null is the paper's four: rows, rows reversed,
            columns, columns reversed.
        bidirectional: Two layers a block, one of them on the reversed scan, their results summed.
        local: Kernel of the depthwise convolutions over the grid of patches, before the first block and after the last,
            odd; 0 is none.
        skips: Whether what enters a block of the first half also enters its mirror image in the second half.
        row_tokens: Learned tokens where a scan jumps from one row or column to the next.
        backend: Of the scan: `fused` is mamba-ssm's kernels, `torch` plain PyTorch in parallel, `reference` the plain
            recurrence, `auto` the first of these that can be had.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        size: Literal["S", "L", "H"] = "S",
        hidden: Annotated[int, Ge(1)] | None = None,
        depth: Annotated[int, Ge(1)] | None = None,
        patch: Annotated[int, Ge(1)] = 2,
        layer: Literal["mamba1", "mamba2"] = "mamba1",
        state: Annotated[int, Ge(1)] | None = None,
        conv: Annotated[int, Ge(1)] = 3,
        expand: Annotated[int, Ge(1)] = 2,
        head: Annotated[int, Ge(1)] | None = None,
        scans: Annotated[tuple[Scan, ...], MinLen(1)] | None = None,
        bidirectional: bool = False,
        local: Annotated[int, Ge(0)] = 3,
        skips: bool = True,
        row_tokens: Annotated[int, Ge(0)] = 3,
        backend: Backend = "auto",
    ) -> None:
        super().__init__(spec)
        at_least_one(hidden=hidden, depth=depth, patch=patch, expand=expand, head=head)
        _check(local, layer, head, scans)
        hidden = SIZES[size][0] if hidden is None else hidden
        if layer == "mamba2":
            head = HEAD if head is None else head
            _check_head(head, hidden, expand)
        depth = SIZES[size][1] if depth is None else depth
        turns = SCANS if scans is None else scans
        self.layer, self.backend = layer, backend
        self.patches = Patches(spec, hidden, patch, "dim")
        rows, columns = self.patches.rows, self.patches.columns
        self.conditioning = Conditioning(spec, hidden, frequencies=NOISE_FREQUENCIES, backbone="dim")
        self.places = nn.Parameter(0.02 * torch.randn(1 + rows * columns, hidden))
        self.modulation = nn.Linear(hidden, 3 * hidden)

        make = _maker(layer, hidden, {"state": state, "head": head}, conv=conv, expand=expand, backend=backend)
        self.joins = depth // 2 if skips else 0  # so many at the end take what so many before them were given
        self.layers = nn.ModuleList()
        for number in range(depth):
            order = turns[number % len(turns)].order(rows, columns)
            ways = [order, order.flip(0)] if bidirectional else [order]
            read = [Row(way, columns, hidden, row_tokens) for way in ways]
            self.layers.append(Block(read, [make() for _ in ways], hidden, joins=number >= depth - self.joins))

        self.local_before = Local(hidden, local, rows, columns) if local else nn.Identity()
        self.local_after = Local(hidden, local, rows, columns) if local else nn.Identity()
        self.norm = nn.RMSNorm(hidden, eps=EPS, elementwise_affine=False)
        self.last_modulation = nn.Linear(hidden, 2 * hidden)
        self.out = Unpatch(self.patches, hidden, spec.shape[0])
        self._initialise()

    def _initialise(self) -> None:
        """Zero for what makes a block the identity and the output 0; the layers' own start is left as it is."""
        for module in self.conditioning.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for zero in (self.modulation, self.last_modulation, self.out.map):
            nn.init.zeros_(zero.weight)
            nn.init.zeros_(zero.bias)

    def blocks(self) -> list[nn.Module]:
        """The blocks, in the order of the forward pass."""
        return list(self.layers)

    def facts(self) -> dict[str, str]:
        """Which backend computes the scans on the device of the weights."""
        return {"scan_backend": resolve(self.backend, self.layer, self.places.device)}

    def forward(self, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """F: (B, C, H, W), (B,) and the inputs of ``spec.cond``, to (B, C, H, W)."""
        embedding = self.conditioning(noise, cond)  # (B, D), and also the row's first token
        patches = self.local_before(self.patches(x))  # (B, N, D)
        tokens = torch.cat([embedding[:, None], patches], dim=1) + self.places  # (B, 1 + N, D)
        modulation = self.modulation(silu(embedding)).reshape(len(x), 3, -1)  # (B, 3, D)
        kept: list[Tensor] = []
        second = len(self.layers) - self.joins  # with an odd depth the first block is outside
        for number, block in enumerate(self.layers):
            if second - self.joins <= number < second:
                kept.append(tokens)
            tokens = block(tokens, modulation, kept.pop()) if number >= second else block(tokens, modulation)
        shift, scale = self.last_modulation(silu(embedding)).chunk(2, dim=1)
        out: Tensor = self.out(modulate(self.norm(self.local_after(tokens[:, 1:])), shift, scale))
        return out


def _maker(layer: str, hidden: int, sizes: Mapping[str, int | None], **options: Any) -> Callable[[], nn.Module]:
    """What makes a state-space layer; sizes that are None are the layer's own."""
    options |= {name: size for name, size in sizes.items() if size is not None}
    return partial(Mamba if layer == "mamba1" else Mamba2, hidden, **options)


def _check(local: int, layer: str, head: int | None, scans: tuple[Scan, ...] | None) -> None:
    if scans is not None and not scans:
        raise ValueError("scans names none; name at least one, or leave it out for the paper's four")
    if local < 0 or (local and local % 2 == 0):
        raise ValueError(
            f"local is the side of a convolution around a patch, which is odd, or 0 for none; got {local}:"
            f" write backbone.local: {max(local + 1, 0)}"
        )
    if layer == "mamba1" and head is not None:
        raise ValueError(
            f"head {head} was given, but mamba1 has no heads; leave it out or write backbone.layer: mamba2"
        )


def _check_head(head: int, hidden: int, expand: int) -> None:
    """As Mamba-2's own check, in the words of the backbone's options."""
    inside = expand * hidden
    if inside % head:
        fits = [channels for channels in range(1, inside + 1) if inside % channels == 0]
        raise ValueError(
            f"head {head} does not divide the {inside} channels inside a layer (expand {expand} x hidden {hidden});"
            f" write backbone.head: {min(fits, key=lambda channels: abs(channels - head))}, or another backbone.hidden"
        )
