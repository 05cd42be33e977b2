"""Mamba: a gated layer around the selective scan, with mamba-ssm's structure and parameter names.

Source: Gu & Dao 2023, "Mamba" (arXiv 2312.00752), section 3.4, figure 3, section 3.6. Cost: linear in the tokens.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from .._checks import at_least_one
from .backends import Backend, checked
from .functions import selective_scan
from .layers import causal, first_steps
from .precision import wide


class Mamba(nn.Module):
    """(B, L, width) to (B, L, width); token t sees the tokens up to t.

    Args:
        width: Of a token.
        state: N, numbers that a channel remembers.
        conv: Tokens under the causal convolution before the scan.
        expand: Channels inside, as a multiple of ``width``.
        rank: Of the map to the step sizes; None is width / 16, rounded up.
        backend: Of the scan: see ``resolve``.

    Raises:
        ValueError: A size is below 1, or ``backend`` is unknown, or ``fused`` and its kernels cannot run here.
    """

    # what weight decay leaves alone; a copy keeps this, and loses marks on parameters
    undecayed = "A_log", "D"

    def __init__(
        self,
        width: int,
        *,
        state: int = 16,
        conv: int = 4,
        expand: int = 2,
        rank: int | None = None,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        at_least_one(width=width, state=state, conv=conv, expand=expand, rank=rank)
        inner = expand * width
        self.state, self.rank = state, math.ceil(width / 16) if rank is None else rank
        self.backend = checked(backend, "mamba1")
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, conv, groups=inner, padding=conv - 1)
        self.x_proj = nn.Linear(inner, self.rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner)
        self.A_log = nn.Parameter(torch.arange(1, state + 1.0).log().repeat(inner, 1))  # (D, N)
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, width, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        with torch.no_grad():
            self.dt_proj.bias.copy_(first_steps(inner))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, L, width) to tokens."""
        u, z = self.in_proj(x).transpose(1, 2).chunk(2, dim=1)  # (B, D, L) each
        u = silu(causal(self.conv1d, u))
        delta, B, C = self.x_proj(u.transpose(1, 2)).split([self.rank, self.state, self.state], dim=2)
        delta = linear(delta, self.dt_proj.weight).transpose(1, 2)  # its bias is added in the scan, in float32
        A = -wide(self.A_log).exp()
        y = selective_scan(
            u,
            delta,
            A,
            B.transpose(1, 2),
            C.transpose(1, 2),
            self.D,
            z,
            self.dt_proj.bias,
            delta_softplus=True,
            backend=self.backend,
        )
        out: Tensor = self.out_proj(y.transpose(1, 2))
        return out
