"""The context U-Net of small teaching programs: two levels down to one vector, which class and noise level steer up.

Source: no paper; the design that minimal conditional diffusion programs for MNIST share, here on Ronneberger et al.
2015, "U-Net" (arXiv 1505.04597). On the way up the class multiplies the features and the noise level is added to them.
Group normalisation (Wu & He 2018, arXiv 1803.08494) is in batch normalisation's place, so that an image does not depend
on its batch. Cost: convolutions alone, linear in the pixels; no attention, so far places meet in the vector only.
"""

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d, silu

from ...core import Backbone, DataSpec
from ._checks import at_least_one
from ._conditioning import Conditions
from ._embeddings import NoiseEmbedding, image_size

FREQUENCIES = 128  # of the noise label's waves
SHRINKS = 4  # sides of the image, in places of the lowest level


class Residual(nn.Module):
    """Two convolutions, each normalised, beside a shortcut.

    Args:
        before: Channels that come.
        after: Channels that go.
        groups: Of the normalisations.
        dropout: Between the two.
    """

    def __init__(self, before: int, after: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.norm1 = nn.GroupNorm(groups, after)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, after)
        self.shortcut = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, H, W) to (B, after, H, W)."""
        h = self.dropout(silu(self.norm1(self.conv1(x))))
        h = silu(self.norm2(self.conv2(h)))
        out: Tensor = self.shortcut(x) + h
        return out


class Down(Residual):
    """Halves the sides, rounded up, then a residual block."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, H, W) to (B, after, H / 2, W / 2)."""
        return super().forward(max_pool2d(x, 2, ceil_mode=True))


class Up(nn.Module):
    """A transposed convolution to the size of the skip, steered by class and noise level, and a residual block with it.

    Args:
        before: Channels that come, and of the enlarged features.
        skip: Channels of the skip.
        after: Channels that go.
        kernel: Rows and columns that each place becomes.
        noise: Width of the noise level's embedding.
        context: Width of the context; 0 for none.
        groups: Of the normalisations.
        dropout: In the residual block.
    """

    def __init__(
        self,
        before: int,
        skip: int,
        after: int,
        kernel: tuple[int, int],
        noise: int,
        context: int,
        groups: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.enlarge = nn.ConvTranspose2d(before, before, kernel, stride=kernel)
        self.norm = nn.GroupNorm(groups, before)
        self.shift = nn.Linear(noise, before)
        self.scale = nn.Linear(context, before) if context else None
        self.residual = Residual(before + skip, after, groups, dropout)

    def forward(self, x: Tensor, skip: Tensor, noise: Tensor, context: Tensor | None) -> Tensor:
        """(B, before, h, w), (B, skip, H, W), (B, noise) and (B, context) to (B, after, H, W)."""
        # of an odd side half, rounded up, is doubled: one row too many
        h = silu(self.norm(self.enlarge(x)[..., : skip.shape[2], : skip.shape[3]]))
        if self.scale is not None and context is not None:
            h = (1 + self.scale(context))[..., None, None] * h  # the class multiplies
        h = h + self.shift(noise)[..., None, None]  # the noise level adds
        out: Tensor = self.residual(torch.cat([h, skip], dim=1))
        return out


class ContextUNet(Backbone):
    """Small convolutional U-Net around a vector; the class multiplies, the noise level adds.

    Args:
        spec: Images of any size, with classes or vectors or without.
        width: Channels at full resolution; the two lower levels have twice as many. A multiple of `groups`, and more
            than `groups` where an image is one pixel.
        groups: Of each group normalisation.
        window: Side in pixels of the area that the bottleneck averages into one vector, in multiples of 4; a larger
            image has several.
        dropout: Between the convolutions of a residual block, in training.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        width: Annotated[int, Ge(1)] = 64,
        groups: Annotated[int, Ge(1)] = 8,
        window: Annotated[int, Ge(SHRINKS)] = 28,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
    ) -> None:
        super().__init__(spec)
        channels, height, breadth = image_size(spec, "context_unet")
        _check(width, groups, height * breadth)
        wide = 2 * width
        self.window = (_places(height, window), _places(breadth, window))
        self.noise = NoiseEmbedding(FREQUENCIES, wide)
        self.context = Conditions(spec, wide, "context_unet") if spec.cond else None
        self.into = Residual(channels, width, groups, dropout)
        self.downs = nn.ModuleList(Down(before, wide, groups, dropout) for before in (width, wide))
        # where a place is enlarged to, what comes beside it, what leaves: the way down, backwards
        plan = ((self.window, wide, wide), ((2, 2), wide, wide), ((2, 2), width, width))
        self.ups = nn.ModuleList(
            Up(wide, skip, after, kernel, wide, wide if spec.cond else 0, groups, dropout)
            for kernel, skip, after in plan
        )
        self.out = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)

    def blocks(self) -> list[nn.Module]:
        """All residual blocks, on the way down and up."""
        return [self.into, *self.downs, *self.ups]

    def forward(self, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """F: (B, C, H, W), (B,) and the conditions of the data to (B, C, H, W)."""
        if x.shape[1:] != self.spec.shape:
            raise ValueError(f"this context_unet was built for images {self.spec.shape}; got {tuple(x.shape[1:])}")
        level = silu(self.noise(noise))  # (B, 2 width)
        context = None if self.context is None else silu(self.context(cond))
        skips = [self.into(x)]
        for down in self.downs:
            skips.append(down(skips[-1]))  # sides H, H / 2, H / 4, rounded up
        h = silu(avg_pool2d(skips[-1], self.window, ceil_mode=True))  # (B, 2 width, 1, 1) of an image of one window
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            h = up(h, skip, level, context)
        out: Tensor = self.out(h)
        return out


def _places(side: int, window: int) -> int:
    """How many places of the lowest level a window has along a side: no more than fit in ``window`` pixels."""
    places = -(-side // SHRINKS)
    windows = -(-places // (window // SHRINKS))
    return -(-places // windows)


def _check(width: int, groups: int, pixels: int) -> None:
    at_least_one(width=width, groups=groups)
    if width % groups:
        raise ValueError(
            f"width {width} is not a multiple of groups {groups}; write backbone.width: {-(-width // groups) * groups}"
            f" or backbone.groups: {math.gcd(width, groups)}"
        )
    if pixels == 1 and width == groups:  # the lower levels are twice as wide
        raise ValueError(
            f"at 1 x 1 pixels each of the {groups} groups of {groups} channels is one number, which is normalised to 0;"
            f" write backbone.width: {2 * groups}"
        )
