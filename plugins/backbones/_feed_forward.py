"""The two-layer network of a transformer block, plain or gated.

Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.3, with GELU; gated: Shazeer 2020, "GLU Variants Improve
Transformer" (arXiv 2002.05202), equation 6.
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import silu

FeedForward = Literal["gelu", "swiglu"]


class SwiGLU(nn.Module):
    """Equation 6: (swish(x W) * x V) W2.

    Args:
        width: D, of a token.
        inside: Of W and V each.
    """

    def __init__(self, width: int, inside: int) -> None:
        super().__init__()
        self.into = nn.Linear(width, 2 * inside)  # W and V
        self.out = nn.Linear(inside, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to the same."""
        gate, value = self.into(x).chunk(2, dim=-1)
        out: Tensor = self.out(silu(gate) * value)
        return out


def feed_forward(kind: FeedForward, width: int, ratio: float) -> nn.Module:
    """A network (..., D) to (..., D).

    Args:
        kind: ``gelu`` or ``swiglu``, of about as many weights.
        width: D.
        ratio: Width inside of the plain one, as a multiple of D. The gated one has three matrices where this has two,
            so it takes two thirds of it (section 3 there), to the nearest multiple of 8, which GPUs want.
    """
    if kind == "swiglu":
        return SwiGLU(width, max(8, 8 * round(width * ratio / 12)))
    inside = max(1, round(width * ratio))
    return nn.Sequential(nn.Linear(width, inside), nn.GELU(approximate="tanh"), nn.Linear(inside, width))
