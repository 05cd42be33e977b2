"""The U-Net of DDPM: residual blocks down to a few pixels and up again, with skips, and attention at some resolutions.

Source: Ho et al. 2020, "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239), appendix B. The defaults are its
CIFAR-10 network, 35.7 million weights.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Lt, MinLen
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

from ...core import Backbone, DataSpec
from ._attention import SelfAttention
from ._conditioning import Conditioning
from ._embeddings import image_size


class Residual(nn.Module):
    """Two convolutions beside a shortcut, told of noise level and class in between, then attention where there is some.

    Args:
        before: Channels that come.
        after: Channels that go.
        given: Width of the conditioning.
        groups: Of the normalisations.
        dropout: Before the second convolution.
        heads: Of the attention; 0 for none.
    """

    def __init__(self, before: int, after: int, given: int, groups: int, dropout: float, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, before, eps=1e-6)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.given = nn.Linear(given, after)
        self.norm2 = nn.GroupNorm(groups, after, eps=1e-6)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.shortcut = nn.Identity() if before == after else nn.Conv2d(before, after, 1)
        self.attention = Attention(after, groups, heads) if heads else nn.Identity()

    def forward(self, x: Tensor, given: Tensor) -> Tensor:
        """(B, before, H, W) and (B, given) to (B, after, H, W)."""
        h = self.conv1(silu(self.norm1(x))) + self.given(silu(given))[:, :, None, None]
        h = self.conv2(self.dropout(silu(self.norm2(h))))
        out: Tensor = self.attention(self.shortcut(x) + h)
        return out


class Attention(nn.Module):
    """Every pixel of (B, C, H, W) attends to every other one; added to what came."""

    def __init__(self, channels: int, groups: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.mix = SelfAttention(channels, heads)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (B, H W, C)
        mixed: Tensor = self.mix(tokens).transpose(1, 2).reshape(x.shape)
        return x + mixed


class Halve(nn.Conv2d):
    """(B, C, H, W) to (B, C, H/2, W/2)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2, padding=1)


class Double(nn.Conv2d):
    """(B, C, H, W) to (B, C, 2H, 2W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Nearest neighbours, then a convolution."""
        return super().forward(interpolate(x, scale_factor=2.0, mode="nearest"))


class UNet(Backbone):
    """The U-Net of DDPM, with classes.

    Args:
        spec: Images or latents, with or without classes.
        base: Channels of the first level, even.
        multipliers: Channels of each level as a multiple of `base`; each level but the first has half the resolution of
            the one before.
        blocks: Residual blocks a level, going down; one more going up.
        attention: Resolutions (the longer side, in pixels) at which every block is followed by attention; the middle
            always has it.
        dropout: Inside the residual blocks, in training.
        groups: Of the group normalisation; divides the channels of every level.
        heads: Attention heads.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        base: Annotated[int, Ge(2)] = 128,
        multipliers: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1)] = (1, 2, 2, 2),
        blocks: Annotated[int, Ge(1)] = 2,
        attention: tuple[Annotated[int, Ge(1)], ...] = (16,),
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        groups: Annotated[int, Ge(1)] = 32,
        heads: Annotated[int, Ge(1)] = 1,
    ) -> None:
        super().__init__(spec)
        channels, height, width = image_size(spec, "unet")
        widths = [base * m for m in multipliers]
        sides = [max(height, width) >> level for level in range(len(widths))]
        _check_sizes(height, width, len(widths), sides, tuple(attention))
        _check_widths(base, widths, groups, heads)
        self.given = Conditioning(spec, 4 * base, frequencies=base, backbone="unet")

        def residual(before: int, after: int, heads: int) -> Residual:
            return Residual(before, after, 4 * base, groups, dropout, heads)

        heads_at = [heads if side in attention else 0 for side in sides]
        self.into = nn.Conv2d(channels, base, 3, padding=1)
        self.down = nn.ModuleList()
        now, skips = base, [base]
        for level, (after, here) in enumerate(zip(widths, heads_at, strict=True)):
            if level:
                self.down.append(Halve(now))
                skips.append(now)
            for _ in range(blocks):
                self.down.append(residual(now, after, here))
                now = after
                skips.append(now)
        self.middle = nn.ModuleList([residual(now, now, heads), residual(now, now, 0)])
        self.up = nn.ModuleList()
        for level, (after, here) in reversed(list(enumerate(zip(widths, heads_at, strict=True)))):
            for _ in range(blocks + 1):
                self.up.append(residual(now + skips.pop(), after, here))
                now = after
            if level:
                self.up.append(Double(now))
        self.norm = nn.GroupNorm(groups, now, eps=1e-6)
        self.out = nn.Conv2d(now, channels, 3, padding=1)
        self._initialise()

    def _initialise(self) -> None:
        """Xavier for every linear map, zero for the last one of each residual branch and of the network."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        nn.init.zeros_(self.out.weight)
        for module in self.modules():
            if isinstance(module, Residual):
                nn.init.zeros_(module.conv2.weight)
            elif isinstance(module, SelfAttention):
                nn.init.zeros_(module.project.weight)

    def blocks(self) -> list[nn.Module]:
        """Every residual block with its attention, in the order of the forward pass."""
        return [module for module in (*self.down, *self.middle, *self.up) if isinstance(module, Residual)]

    def forward(self, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """F: (B, C, H, W), (B,) and the inputs of ``spec.cond``, to (B, C, H, W)."""
        given = self.given(noise, cond)  # (B, 4 base)
        h = self.into(x)
        skips = [h]
        for module in self.down:
            h = module(h, given) if isinstance(module, Residual) else module(h)
            skips.append(h)
        for module in self.middle:
            h = module(h, given)
        for module in self.up:
            h = module(torch.cat([h, skips.pop()], dim=1), given) if isinstance(module, Residual) else module(h)
        out: Tensor = self.out(silu(self.norm(h)))
        return out


def _check_sizes(height: int, width: int, levels: int, sides: list[int], attention: tuple[int, ...]) -> None:
    step = 2 ** (levels - 1)
    if height % step or width % step:
        most = next(n for n in range(levels, 0, -1) if height % 2 ** (n - 1) == width % 2 ** (n - 1) == 0)
        raise ValueError(
            f"{levels} levels halve the image {levels - 1} times, so its sides must be multiples of {step};"
            f" got {height} x {width}: write backbone.multipliers with at most {most} level(s), or bring the images to"
            f" {-(-height // step) * step} x {-(-width // step) * step}"
        )
    unknown = [side for side in attention if side not in sides]
    if unknown:
        raise ValueError(
            f"attention at resolution {', '.join(map(str, unknown))}, but the levels have {', '.join(map(str, sides))};"
            " write backbone.attention: a list of some of these, or [] for none but in the middle"
        )


def _check_widths(base: int, widths: list[int], groups: int, heads: int) -> None:
    if base % 2:
        raise ValueError(f"base must be even, for the waves of the noise level come in pairs; got {base}")
    for channels in sorted({base, *widths}):
        if channels % groups:
            fits = max(g for g in range(1, groups + 1) if all(c % g == 0 for c in (base, *widths)))
            raise ValueError(
                f"groups {groups} does not divide the {channels} channels of a level ({', '.join(map(str, widths))});"
                f" write backbone.groups: {fits}, or a base that is a multiple of {groups}"
            )
        if channels % heads:
            fits = max(h for h in range(1, heads + 1) if all(c % h == 0 for c in (base, *widths)))
            raise ValueError(f"heads {heads} does not divide {channels} channels; write backbone.heads: {fits}")
