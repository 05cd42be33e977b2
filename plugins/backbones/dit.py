"""DiT: a transformer over patches, modulated by noise level and class.

Source: Peebles & Xie 2022, "Scalable Diffusion Models with Transformers" (arXiv 2212.09748), section 3.2, its
adaLN-Zero block. The defaults are DiT-S/2; B is hidden 768, heads 12; L is 1024, depth 24, heads 16; XL 1152, 28, 16.
"""

from collections.abc import Mapping
from typing import Annotated

from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn
from torch.nn.functional import silu

from ...core import Backbone, DataSpec
from ._attention import SelfAttention
from ._conditioning import Conditioning
from ._embeddings import positions
from ._modulation import gated, modulate
from ._patches import Patches, Unpatch

NOISE_FREQUENCIES = 256


class Block(nn.Module):
    """Attention and a two-layer network, each normalised, modulated and gated by the conditioning (adaLN-Zero).

    Args:
        hidden: D.
        heads: Of the attention.
        mlp_hidden: Width inside the two-layer network.
        dropout: On what each half adds.
    """

    def __init__(self, hidden: int, heads: int, mlp_hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden, eps=1e-6, elementwise_affine=False)
        self.attention = SelfAttention(hidden, heads)
        gelu = nn.GELU(approximate="tanh")
        self.mlp = nn.Sequential(nn.Linear(hidden, mlp_hidden), gelu, nn.Linear(mlp_hidden, hidden))
        self.dropout = nn.Dropout(dropout)
        self.modulation = nn.Linear(hidden, 6 * hidden)

    def forward(self, x: Tensor, given: Tensor) -> Tensor:
        """Tokens (B, N, D) and conditioning (B, D) to tokens."""
        # figure 3: shift beta, scale gamma, gate alpha of each half, regressed from the conditioning
        beta1, gamma1, alpha1, beta2, gamma2, alpha2 = self.modulation(silu(given)).chunk(6, dim=1)
        x = gated(x, alpha1, self.dropout(self.attention(modulate(self.norm(x), beta1, gamma1))))
        return gated(x, alpha2, self.dropout(self.mlp(modulate(self.norm(x), beta2, gamma2))))


class DiT(Backbone):
    """Diffusion transformer with adaLN-Zero blocks.

    Args:
        spec: Images or latents, with or without classes.
        hidden: Width of a token; a multiple of 4 and of `heads`.
        depth: Number of blocks.
        heads: Attention heads.
        patch: Side of a patch in pixels (or latents); divides height and width.
        mlp_ratio: Width inside a block's two-layer network, as a multiple of `hidden`.
        dropout: On what attention and two-layer network add, in training; the paper has none.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        hidden: Annotated[int, Ge(4)] = 384,
        depth: Annotated[int, Ge(1)] = 12,
        heads: Annotated[int, Ge(1)] = 6,
        patch: Annotated[int, Ge(1)] = 2,
        mlp_ratio: Annotated[float, Gt(0)] = 4.0,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
    ) -> None:
        super().__init__(spec)
        _check(hidden, heads)
        self.patches = Patches(spec, hidden, patch, "dit")
        self.places: Tensor
        self.register_buffer("places", positions(self.patches.rows, self.patches.columns, hidden), persistent=False)
        self.given = Conditioning(spec, hidden, frequencies=NOISE_FREQUENCIES, backbone="dit")
        inside = max(1, round(hidden * mlp_ratio))
        self.layers = nn.ModuleList(Block(hidden, heads, inside, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(hidden, eps=1e-6, elementwise_affine=False)
        self.modulation = nn.Linear(hidden, 2 * hidden)
        self.out = Unpatch(self.patches, hidden, spec.shape[0])
        self._initialise()

    def _initialise(self) -> None:
        """Xavier for every linear map, 0.02 for the embeddings, and zero for what makes a block the identity."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for module in self.given.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        # section 3.2, "adaLN-Zero block": alpha = 0, so that every block starts as the identity
        gates = [module.modulation for module in self.modules() if isinstance(module, Block)]
        for zero in (*gates, self.modulation, self.out.map):
            nn.init.zeros_(zero.weight)

    def forward(self, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """F: (B, C, H, W), (B,) and the inputs of ``spec.cond``, to (B, C, H, W)."""
        given = self.given(noise, cond)  # (B, D)
        tokens = self.patches(x) + self.places  # (B, N, D)
        for layer in self.layers:
            tokens = layer(tokens, given)
        shift, scale = self.modulation(silu(given)).chunk(2, dim=1)
        out: Tensor = self.out(modulate(self.norm(tokens), shift, scale))
        return out


def _check(hidden: int, heads: int) -> None:
    if hidden % heads:
        raise ValueError(
            f"hidden {hidden} is not a multiple of heads {heads}; write backbone.hidden: {_next(hidden, heads)}"
            " or another number of heads"
        )
    if hidden % 4:
        raise ValueError(
            f"hidden {hidden} is not a multiple of 4, which the positions need (sine and cosine of row and column);"
            f" write backbone.hidden: {_next(hidden, heads)}"
        )


def _next(hidden: int, heads: int) -> int:
    """The first width from ``hidden`` on that suits both heads and positions."""
    return next(h for h in range(hidden, hidden + 4 * heads + 1) if h % heads == h % 4 == 0)
