"""The vision transformers of DINOv2, as far as their class token.

Source: Oquab et al. 2023, "DINOv2: Learning Robust Visual Features without Supervision" (arXiv 2304.07193), section 4
and appendix B; Dosovitskiy et al. 2020 (arXiv 2010.11929), section 3.1; LayerScale: Touvron et al. 2021 (arXiv
2103.17239), equation 4; SwiGLU: Shazeer 2020 (arXiv 2002.05202), equation 6. The names of the weights are those of the
published files, so that these load as they are, and width, depth and grid are read off them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, scaled_dot_product_attention, silu

PATCH = 14  # pixels along a side
HEAD = 64  # channels of an attention head
EPS = 1e-6  # of the layer norms
OFFSET = 0.1  # the published models stretch their positions by this much more than the grid asks for


class DINOv2(nn.Module):
    """A transformer of the shape that its weights have.

    Args:
        state: A published state dict.

    Raises:
        KeyError, RuntimeError: They are of another network.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        _, places, width = state["pos_embed"].shape
        if width % HEAD:
            raise RuntimeError(f"pos_embed has {width} channels, which is no multiple of {HEAD}")
        self.grid, self.width = math.isqrt(places - 1), width
        depth = len([name for name in state if name.endswith(".ls1.gamma")])
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))  # in the files; only training asks for it
        self.pos_embed = nn.Parameter(torch.zeros(1, places, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, PATCH)})
        self.blocks = nn.ModuleList(Block(width, state) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.load_state_dict(dict(state))
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """The class token, (B, width), of normalised images (B, 3, H, W) whose sides are multiples of 14."""
        maps = self.patch_embed["proj"](x)  # (B, width, h, w)
        tokens = maps.flatten(2).transpose(1, 2)  # (B, h w, width)
        h = torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], 1) + self._positions(*maps.shape[2:])
        for block in self.blocks:
            h = block(h)
        token: Tensor = self.norm(h[:, 0])
        return token

    def _positions(self, rows: int, columns: int) -> Tensor:
        """The learned positions of a square grid, stretched to another, (1, 1 + rows * columns, width)."""
        if (rows, columns) == (self.grid, self.grid):
            return self.pos_embed
        known = self.pos_embed[:, 1:].reshape(1, self.grid, self.grid, self.width).permute(0, 3, 1, 2)
        scale = ((rows + OFFSET) / self.grid, (columns + OFFSET) / self.grid)
        found = interpolate(known, scale_factor=scale, mode="bicubic", antialias=False)  # (1, width, rows, columns)
        assert found.shape[2:] == (rows, columns)
        return torch.cat([self.pos_embed[:, :1], found.flatten(2).transpose(1, 2)], 1)


class Block(nn.Module):
    """Attention, then a perceptron, each added to what came in, scaled channel by channel."""

    def __init__(self, width: int, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=EPS) for _ in range(2))
        self.attn, self.mlp = Attention(width), _perceptron(width, state)
        self.ls1, self.ls2 = Scale(width), Scale(width)

    def forward(self, h: Tensor) -> Tensor:
        h = h + self.ls1(self.attn(self.norm1(h)))
        # Touvron et al., equation 4
        out: Tensor = h + self.ls2(self.mlp(self.norm2(h)))
        return out


class Scale(nn.Module):
    """A learned factor for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, h: Tensor) -> Tensor:
        return h * self.gamma


class Attention(nn.Module):
    """Every token looks at every token, in heads of 64 channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        batch, count, width = h.shape
        q, k, v = self.qkv(h).reshape(batch, count, 3, -1, HEAD).permute(2, 0, 3, 1, 4)  # (B, heads, count, 64) each
        seen = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, count, width)
        out: Tensor = self.proj(seen)
        return out


class GELUPerceptron(nn.Module):
    """Of ViT-S, -B and -L."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.fc2(gelu(self.fc1(h)))
        return out


class SwiGLUPerceptron(nn.Module):
    """Of ViT-g."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12, self.w3 = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, h: Tensor) -> Tensor:
        gate, value = self.w12(h).chunk(2, dim=-1)
        # Shazeer, equation 6: (Swish(x W) * x V) W2
        out: Tensor = self.w3(silu(gate) * value)
        return out


def _perceptron(width: int, state: Mapping[str, Tensor]) -> nn.Module:
    """The kind, and as wide, as the weights have it."""
    if "blocks.0.mlp.w12.weight" in state:
        return SwiGLUPerceptron(width, len(state["blocks.0.mlp.w12.weight"]) // 2)
    return GELUPerceptron(width, len(state["blocks.0.mlp.fc1.weight"]))
