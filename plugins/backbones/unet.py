"""The U-Net: residual blocks down to a few pixels and up again, with skips, and attention at some resolutions.

Source: Ho et al. 2020, "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239), appendix B. The defaults are its
CIFAR-10 network, 35.7 million weights. By options it is the network of ADM (Dhariwal & Nichol 2021, arXiv 2105.05233,
section 3) and DDPM++ as in EDM (Karras et al. 2022, arXiv 2206.00364, appendix F.2).
"""

from collections.abc import Collection, Mapping
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Lt, MinLen
from torch import Tensor, nn
from torch.nn.functional import silu

from ...core import Backbone, DataSpec
from ._conditioning import Conditioning
from ._embeddings import image_size
from ._unet_blocks import Attention, Resample, Residual, Style, doubling, halving


class UNet(Backbone):
    """The U-Net of DDPM, and by options those of ADM and EDM.

    Args:
        spec: Images or latents of any size, with or without classes.
        base: Channels of the first level, even.
        multipliers: Channels of each level as a multiple of `base`; each level but the first has half the resolution of
            the one before, rounded up.
        blocks: Residual blocks a level, going down; one more going up.
        attention: Resolutions (the longer side, in pixels) at which blocks are followed by attention; the middle always
            has it.
        decoder_attention: Going up, attention follows every block of these resolutions (DDPM, ADM), or the last one
            alone (DDPM++).
        heads: Attention heads.
        head_channels: Channels of each head, instead of their number: 64 in ADM.
        resample: The resolution changes by a convolution (DDPM), by a residual block (ADM), or by a residual block with
            a 1 x 1 convolution in its shortcut (DDPM++).
        scale_shift: Noise level and class scale and shift the second normalisation of a block (ADM), instead of being
            added before it.
        half_sums: Sums of shortcut and branch are divided by the square root of 2, so that the variance stays (DDPM++).
        dropout: Inside the residual blocks, in training.
        groups: Of the group normalisation; divides the channels of every level.
        init: Weights start by Xavier's rule with biases of zero (DDPM, DDPM++), or as torch starts them (ADM); the
            last convolution of each branch and of the network is zero.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        base: Annotated[int, Ge(2)] = 128,
        multipliers: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1)] = (1, 2, 2, 2),
        blocks: Annotated[int, Ge(1)] = 2,
        attention: tuple[Annotated[int, Ge(1)], ...] = (16,),
        decoder_attention: Literal["every", "last"] = "every",
        heads: Annotated[int, Ge(1)] = 1,
        head_channels: Annotated[int, Ge(1)] | None = None,
        resample: Resample = "convolution",
        scale_shift: bool = False,
        half_sums: bool = False,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        groups: Annotated[int, Ge(1)] = 32,
        init: Literal["xavier", "torch"] = "xavier",
    ) -> None:
        super().__init__(spec)
        channels, height, width = image_size(spec, "unet")
        widths = [base * m for m in multipliers]
        sides = [-(-max(height, width) // 2**level) for level in range(len(widths))]
        here = [side in attention for side in sides]
        _check_attention(sides, tuple(attention))
        _check_groups([base, *widths], groups, sides)
        _check_heads({*(w for w, some in zip(widths, here, strict=True) if some), widths[-1]}, heads, head_channels)
        style = Style(4 * base, groups, dropout, heads, head_channels, scale_shift, half_sums, resample)
        self.conditioning = Conditioning(spec, 4 * base, frequencies=base, backbone="unet")
        self.into = nn.Conv2d(channels, base, 3, padding=1)
        skips = self._build_down(base, widths, blocks, here, style)
        deep = widths[-1]
        self.middle = nn.ModuleList([Residual(deep, deep, style, attention=True), Residual(deep, deep, style)])
        first = blocks if decoder_attention == "last" else 0  # of the blocks going up with attention
        self._build_up(skips, widths, [[some and i >= first for i in range(blocks + 1)] for some in here], style)
        self.norm = style.norm(widths[0])
        self.out = nn.Conv2d(widths[0], channels, 3, padding=1)
        self._initialise(init)

    def _build_down(self, base: int, widths: list[int], blocks: int, attention: list[bool], style: Style) -> list[int]:
        """Make what goes down; the channels that come to each layer and to the one after them."""
        self.down = nn.ModuleList()
        flow = [base]
        for level, (after, here) in enumerate(zip(widths, attention, strict=True)):
            if level:
                self.down.append(halving(flow[-1], style))
                flow.append(flow[-1])
            for _ in range(blocks):
                self.down.append(Residual(flow[-1], after, style, attention=here))
                flow.append(after)
        return flow

    def _build_up(self, skips: list[int], widths: list[int], attention: list[list[bool]], style: Style) -> None:
        """Make what goes up, from the deepest level on."""
        self.up, self.joins = nn.ModuleList(), list[bool]()
        now = widths[-1]
        for level in reversed(range(len(widths))):
            for here in attention[level]:
                self.up.append(Residual(now + skips.pop(), widths[level], style, attention=here))
                self.joins.append(True)
                now = widths[level]
            if level:
                self.up.append(doubling(now, style))
                self.joins.append(False)

    def _initialise(self, init: str) -> None:
        """The weights at the start, zero for the last ones of each residual branch and of the network."""
        if init == "xavier":
            for module in self.modules():
                if isinstance(module, nn.Linear | nn.Conv2d):
                    nn.init.xavier_uniform_(module.weight)
                    assert module.bias is not None
                    nn.init.zeros_(module.bias)
        convolutions = [module.conv2 for module in self.modules() if isinstance(module, Residual)]
        projections = [module.mix.project for module in self.modules() if isinstance(module, Attention)]
        for last in (*convolutions, *projections, self.out):
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    def blocks(self) -> list[nn.Module]:
        """Every residual block with its attention, in the order of the forward pass."""
        return [module for module in (*self.down, *self.middle, *self.up) if isinstance(module, Residual)]

    def forward(self, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """F: (B, C, H, W), (B,) and the inputs of ``spec.cond``, to (B, C, H, W)."""
        embedding = silu(self.conditioning(noise, cond))  # (B, 4 base); the first thing that every block does with it
        h = self.into(x)
        skips = [h]
        for block in self.down:
            h = block(h, embedding)
            skips.append(h)
        for block in self.middle:
            h = block(h, embedding)
        for block, joins in zip(self.up, self.joins, strict=True):
            h = block(_join(h, skips.pop()) if joins else h, embedding)
        out: Tensor = self.out(silu(self.norm(h)))
        return out


def _join(h: Tensor, skip: Tensor) -> Tensor:
    """Both side by side, without the row and column that came of halving an odd side and doubling it again."""
    rows, columns = skip.shape[2:]
    return torch.cat([h[:, :, :rows, :columns], skip], dim=1)


def _check_attention(sides: list[int], attention: tuple[int, ...]) -> None:
    unknown = [side for side in attention if side not in sides]
    if unknown:
        raise ValueError(
            f"attention at resolution {', '.join(map(str, unknown))}, but the levels have {', '.join(map(str, sides))};"
            " write backbone.attention: a list of some of these, or [] for none but in the middle"
        )


def _check_groups(widths: list[int], groups: int, sides: list[int]) -> None:
    """``widths`` begins with the base."""
    if widths[0] % 2:
        raise ValueError(f"base must be even, for the waves of the noise level come in pairs; got {widths[0]}")
    for channels in sorted(set(widths)):
        if channels % groups:
            raise ValueError(
                f"groups {groups} does not divide the {channels} channels of a level ({', '.join(map(str, widths))});"
                f" write backbone.groups: {_divisor(groups, widths)}, or a base that is a multiple of {groups}"
            )
    seen = {width for i, side in enumerate(sides) if side == 1 for width in widths[i : i + 2]}
    if groups in seen:
        raise ValueError(
            f"at 1 x 1 pixels each of the {groups} groups of {groups} channels is one number, which is normalised to 0;"
            f" write backbone.groups: {_divisor(groups - 1, widths)}, or fewer levels in backbone.multipliers"
        )


def _check_heads(widths: Collection[int], heads: int, head_channels: int | None) -> None:
    """``widths`` are those of the levels with attention."""
    if head_channels and heads > 1:
        raise ValueError(
            f"heads {heads} and head_channels {head_channels} both split the attention; leave one of them out"
        )
    option, wanted = ("head_channels", head_channels) if head_channels else ("heads", heads)
    for channels in sorted(set(widths)):
        if channels % wanted:
            raise ValueError(
                f"{option} {wanted} does not divide the {channels} channels of a level with attention;"
                f" write backbone.{option}: {_divisor(wanted, widths)}"
            )


def _divisor(most: int, widths: Collection[int]) -> int:
    """The largest number up to ``most`` that divides all of them."""
    return max(n for n in range(1, most + 1) if all(width % n == 0 for width in widths))
