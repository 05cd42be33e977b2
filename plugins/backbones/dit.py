"""DiT: a transformer over patches, modulated by noise level and class.

Source: Peebles & Xie 2022, "Scalable Diffusion Models with Transformers" (arXiv 2212.09748), section 3.2, its
adaLN-Zero block; sizes: table 1. Cost: attention grows with the square of the patches, all else with their number.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn
from torch.nn.functional import silu

from ...core import Backbone, DataSpec
from ._attention import SelfAttention
from ._checks import at_least_one
from ._conditioning import Conditioning
from ._embeddings import positions as fixed_positions
from ._feed_forward import FeedForward, feed_forward
from ._modulation import gated, modulate
from ._patches import Patches, Unpatch
from ._rotary import grid_turns

NOISE_FREQUENCIES = 256
Size = Literal["S", "B", "L", "XL"]
Norm = Literal["layer", "rms"]


class Shape(NamedTuple):
    """A row of table 1."""

    hidden: int
    depth: int
    heads: int


SIZES: Mapping[Size, Shape] = {
    "S": Shape(384, 12, 6),
    "B": Shape(768, 12, 12),
    "L": Shape(1024, 24, 16),
    "XL": Shape(1152, 28, 16),
}


class Block(nn.Module):
    """Attention and a two-layer network, each normalised, modulated and gated by the conditioning (adaLN-Zero).

    Args:
        hidden: D.
        heads: Of the attention.
        mlp_ratio: Width inside the two-layer network, as a multiple of D.
        dropout: On what each half adds.
        norm: Of the tokens, before each half.
        mlp: Kind of the two-layer network.
        qk_norm: Whether queries and keys are normalised.
    """

    def __init__(
        self,
        hidden: int,
        heads: int,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        norm: Norm = "layer",
        mlp: FeedForward = "gelu",
        qk_norm: bool = False,
    ) -> None:
        super().__init__()
        self.norm = _norm(norm, hidden)
        self.attention = SelfAttention(hidden, heads, qk_norm=qk_norm)
        self.mlp = feed_forward(mlp, hidden, mlp_ratio)
        self.dropout = nn.Dropout(dropout)
        self.modulation = nn.Linear(hidden, 6 * hidden)

    def forward(self, x: Tensor, embedding: Tensor, turns: Tensor | None = None) -> Tensor:
        """Tokens (B, N, D), the embedding (B, D) behind its SiLU, turns of rotary positions, to tokens."""
        # figure 3: shift beta, scale gamma, gate alpha of each half, regressed from the conditioning
        beta1, gamma1, alpha1, beta2, gamma2, alpha2 = self.modulation(embedding).chunk(6, dim=1)
        x = gated(x, alpha1, self.dropout(self.attention(modulate(self.norm(x), beta1, gamma1), turns)))
        return gated(x, alpha2, self.dropout(self.mlp(modulate(self.norm(x), beta2, gamma2))))


class DiT(Backbone):
    """Diffusion transformer with adaLN-Zero blocks.

    Args:
        spec: Images or latents, with or without classes and vectors.
        size: The paper's: S is hidden 384, depth 12, heads 6; B is 768, 12, 12; L is 1024, 24, 16; XL is 1152, 28, 16.
        hidden: Width of a token, a multiple of 4 and of `heads`; null: as `size` says.
        depth: Number of blocks; null: as `size` says.
        heads: Attention heads; null: as `size` says.
        patch: Side of a patch in pixels (or latents); divides height and width.
        mlp_ratio: Width inside a block's two-layer network, as a multiple of `hidden`.
        dropout: On what attention and two-layer network add, in training; the paper has none.
        learned_variance: Whether as many channels again come out, as in the original weights: its variances. Sampling
            here does without; they are for objectives that ask for them.
        qk_norm: Whether the queries and keys of each head are brought to root mean square 1, with a learned scale
            (Esser et al. 2024, arXiv 2403.03206, section 5.3.2); keeps attention from growing without bound.
        norm: Of tokens: `layer`, the paper's, or `rms`, which does not subtract the mean (Zhang & Sennrich 2019, arXiv
            1910.07467, equation 4).
        mlp: A block's two-layer network: `gelu`, the paper's, or `swiglu`, gated, with about as many weights (Shazeer
            2020, arXiv 2002.05202, equation 6).
        positions: How a patch knows its place: `sincos`, the paper's, is added to the tokens; `rotary` turns queries
            and keys by column and row (Heo et al. 2024, arXiv 2403.13298, section 3.2).
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        size: Size = "S",
        hidden: Annotated[int, Ge(4)] | None = None,
        depth: Annotated[int, Ge(1)] | None = None,
        heads: Annotated[int, Ge(1)] | None = None,
        patch: Annotated[int, Ge(1)] = 2,
        mlp_ratio: Annotated[float, Gt(0)] = 4.0,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
        learned_variance: bool = False,
        qk_norm: bool = False,
        norm: Norm = "layer",
        mlp: FeedForward = "gelu",
        positions: Literal["sincos", "rotary"] = "sincos",
    ) -> None:
        super().__init__(spec)
        preset = SIZES[size]
        at_least_one(hidden=hidden, depth=depth, heads=heads, patch=patch)
        width = preset.hidden if hidden is None else hidden
        number = preset.depth if depth is None else depth
        known = "" if heads is not None else f" (of size {size})"
        heads = preset.heads if heads is None else heads
        _check(width, heads, known, rotary=positions == "rotary")
        self.patches = Patches(spec, width, patch, "dit")
        grid = (self.patches.rows, self.patches.columns)
        self.places: Tensor | None  # added to the tokens
        self.turns: Tensor | None  # of queries and keys
        self.register_buffer("places", fixed_positions(*grid, width) if positions == "sincos" else None, False)
        self.register_buffer("turns", grid_turns(*grid, width // heads) if positions == "rotary" else None, False)
        self.conditioning = Conditioning(spec, width, frequencies=NOISE_FREQUENCIES, backbone="dit")
        self.layers = nn.ModuleList(Block(width, heads, mlp_ratio, dropout, norm, mlp, qk_norm) for _ in range(number))
        self.norm = _norm(norm, width)
        self.modulation = nn.Linear(width, 2 * width)
        self.out = Unpatch(self.patches, width, spec.shape[0] * (2 if learned_variance else 1))
        self._initialise()

    def _initialise(self) -> None:
        """Xavier for every linear map, 0.02 for the embeddings, and zero for what makes a block the identity."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for module in self.conditioning.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        # section 3.2, "adaLN-Zero block": alpha = 0, so that every block starts as the identity
        gates = [module.modulation for module in self.modules() if isinstance(module, Block)]
        for zero in (*gates, self.modulation, self.out.map):
            nn.init.zeros_(zero.weight)

    def blocks(self) -> list[nn.Module]:
        """The transformer's blocks."""
        return list(self.layers)

    def forward(self, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """F: (B, C, H, W), (B,) and the inputs of ``spec.cond``, to (B, C, H, W), or 2 C with learned variances."""
        embedding = silu(self.conditioning(noise, cond))  # (B, D); every modulation is linear in it
        tokens = self.patches(x)  # (B, N, D)
        if self.places is not None:
            tokens = tokens + self.places
        for layer in self.layers:
            tokens = layer(tokens, embedding, self.turns)
        shift, scale = self.modulation(embedding).chunk(2, dim=1)
        out: Tensor = self.out(modulate(self.norm(tokens), shift, scale))
        return out


def _norm(kind: Norm, width: int) -> nn.Module:
    """Without weights: the modulation has them."""
    make = nn.LayerNorm if kind == "layer" else nn.RMSNorm
    return make(width, eps=1e-6, elementwise_affine=False)


def _check(hidden: int, heads: int, preset: str, rotary: bool) -> None:
    """Accept a width and a number of heads; ``preset`` says of a number that the user has not written where it is from.

    Raises:
        ValueError: They do not go together.
    """
    # each head's channels are turned in pairs, half of them by the column and half by the row
    step = 4 if rotary else 1
    unit = step * heads
    width = next(width for width in range(hidden, hidden + 4 * unit + 1) if width % unit == width % 4 == 0)
    fits = [n for n in range(1, hidden + 1) if hidden % (step * n) == hidden % 4 == 0]
    remedy = f"write backbone.hidden: {width}" + (
        f", or backbone.heads: {min(fits, key=lambda n: abs(n - heads))}" if fits else ""
    )
    if hidden % heads:
        raise ValueError(f"hidden {hidden} is not a multiple of heads {heads}{preset}; {remedy}")
    if hidden % 4:
        raise ValueError(
            f"hidden {hidden} is not a multiple of 4, which the positions need (sine and cosine of row and column);"
            f" {remedy}"
        )
    if hidden % unit:
        raise ValueError(
            f"rotary positions need heads of a multiple of 4 channels; hidden {hidden} on heads {heads}{preset} gives"
            f" {hidden // heads}: {remedy}"
        )
