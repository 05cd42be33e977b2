"""What a U-Net is made of: residual blocks, with attention after them; some halve or double the resolution.

Source: Ho et al. 2020, "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239), appendix B; scale-shift norm and
resampling blocks: Dhariwal & Nichol 2021, "Diffusion Models Beat GANs" (arXiv 2105.05233), sections 3 and 3.1.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ._attention import SelfAttention
from ._unet_resampling import Double, DoubleByConvolution, Halve, HalveByConvolution, convolve_doubled

Resample = Literal["convolution", "block", "projecting_block"]
EPS = 1e-6  # of the normalisations


@dataclass(frozen=True)
class Style:
    """What all blocks of a network have in common.

    Attributes:
        embedding_width: Of noise level, class and vectors, as one vector.
        groups: Of the normalisations.
        dropout: Before the second convolution.
        heads: Of the attention, where ``head_channels`` does not say it.
        head_channels: Channels of a head.
        scale_shift: Conditioning scales and shifts the second normalisation, instead of being added before it.
        half_sums: Sums are divided by sqrt(2).
        resample: What changes the resolution: a convolution, a block, or one with a convolution in its shortcut.
    """

    embedding_width: int
    groups: int
    dropout: float
    heads: int
    head_channels: int | None
    scale_shift: bool
    half_sums: bool
    resample: Resample

    def norm(self, channels: int) -> nn.GroupNorm:
        """Group normalisation."""
        return nn.GroupNorm(self.groups, channels, eps=EPS)

    def sum(self, x: Tensor, h: Tensor) -> Tensor:
        """A shortcut and its branch."""
        return (x + h) * sqrt(0.5) if self.half_sums else x + h


class Residual(nn.Module):
    """Two convolutions beside a shortcut, told of noise level and class in between, then attention where there is some.

    Args:
        before: Channels that come.
        after: Channels that go.
        style: Of the network.
        attention: Whether there is some.
        resample: What changes the resolution in branch and shortcut, if anything does.
    """

    def __init__(
        self, before: int, after: int, style: Style, *, attention: bool = False, resample: Halve | Double | None = None
    ) -> None:
        super().__init__()
        self.style = style
        self.norm1 = style.norm(before)
        self.resample = resample or nn.Identity()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.steer = nn.Linear(style.embedding_width, 2 * after if style.scale_shift else after)
        self.norm2 = style.norm(after)
        self.dropout = nn.Dropout(style.dropout)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        projected = before != after or (resample is not None and style.resample == "projecting_block")
        self.shortcut = nn.Conv2d(before, after, 1) if projected else nn.Identity()
        self.attention = Attention(after, style) if attention else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, before, H, W) and the embedding (B, width) behind its SiLU to (B, after, H, W), or half or twice that."""
        h = silu(self.norm1(x))
        h = convolve_doubled(h, self.conv1) if isinstance(self.resample, Double) else self.conv1(self.resample(h))
        h = self._steered(h, self.steer(embedding)[:, :, None, None])
        h = self.conv2(self.dropout(silu(h)))
        out: Tensor = self.attention(self.style.sum(self.shortcut(self.resample(x)), h))
        return out

    def _steered(self, h: Tensor, steering: Tensor) -> Tensor:
        """The second normalisation, with what the embedding says before it or in it."""
        if not self.style.scale_shift:
            out: Tensor = self.norm2(h + steering)
            return out
        # section 3.1: AdaGN(h, y) = y_s GroupNorm(h) + y_b, with y_s = 1 + what is learned
        scale, shift = steering.chunk(2, dim=1)
        return torch.addcmul(shift, self.norm2(h), 1 + scale)


class Attention(nn.Module):
    """Every pixel of (B, C, H, W) attends to every other one; added to what came."""

    def __init__(self, channels: int, style: Style) -> None:
        super().__init__()
        self.style = style
        self.norm = style.norm(channels)
        self.mix = SelfAttention(channels, channels // style.head_channels if style.head_channels else style.heads)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (B, H W, C)
        mixed: Tensor = self.mix(tokens).transpose(1, 2).reshape(x.shape)
        return self.style.sum(x, mixed)


def halving(channels: int, style: Style) -> nn.Module:
    """A layer that takes an image and the embedding, and gives an image of half the resolution."""
    if style.resample == "convolution":
        return HalveByConvolution(channels)
    return Residual(channels, channels, style, resample=Halve())


def doubling(channels: int, style: Style) -> nn.Module:
    """Likewise of twice the resolution."""
    if style.resample == "convolution":
        return DoubleByConvolution(channels)
    return Residual(channels, channels, style, resample=Double())
