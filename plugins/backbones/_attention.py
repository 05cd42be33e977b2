"""Self-attention over a row of tokens, for every backbone that wants it.

Source: Vaswani et al. 2017, "Attention Is All You Need" (arXiv 1706.03762), section 3.2; normalised queries and keys:
Esser et al. 2024, "Scaling Rectified Flow Transformers" (arXiv 2403.03206), section 5.3.2. Cost: N^2 in the tokens.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, scaled_dot_product_attention

from ._rotary import rotate


class HeadNorm(nn.Module):
    """Root mean square 1 over a head's channels, times a learned scale a channel.

    Zhang & Sennrich 2019, "Root Mean Square Layer Normalization" (arXiv 1910.07467), equation 4.

    Args:
        width: Of a head.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same."""
        # of one dtype under autocast too, or no fused kernel takes it; it sums in float32 whatever that is
        return rms_norm(x, self.weight.shape, self.weight.to(x.dtype), eps=1e-6)


class SelfAttention(nn.Module):
    """Multi-head attention of N tokens to one another, by torch's fused kernel.

    Args:
        width: D, of a token; a multiple of ``heads``.
        heads: Their number.
        qk_norm: Whether queries and keys are brought to root mean square 1 in each head, times a learned scale.
    """

    def __init__(self, width: int, heads: int, *, qk_norm: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.query_norm = HeadNorm(width // heads) if qk_norm else nn.Identity()
        self.key_norm = HeadNorm(width // heads) if qk_norm else nn.Identity()
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor, turns: Tensor | None = None) -> Tensor:
        """(B, N, D) to (B, N, D), with the turns of rotary positions (2, N, D / heads / 2) where there are any."""
        batch, tokens, width = x.shape
        # 3 of (B, N, D) -> (B, heads, N, D / heads); in this order the gradients come back in one copy
        parts = (part.reshape(batch, tokens, self.heads, -1).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=2))
        q, k, v = parts
        q, k = self.query_norm(q), self.key_norm(k)
        if turns is not None:
            q, k = rotate(q, turns), rotate(k, turns)
        mixed = scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v)
        out: Tensor = self.project(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return out
