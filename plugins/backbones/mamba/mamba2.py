"""Mamba-2: heads of channels with one decay each, so that the scan is matrix products; mamba-ssm's names.

Source: Dao & Gu 2024, "Transformers are SSMs" (arXiv 2405.21060), section 7.1, figure 6. Cost: linear in the tokens.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from .._checks import at_least_one
from . import fused
from .backends import Backend, checked
from .functions import state_space_dual
from .layers import GatedNorm, causal, first_steps
from .precision import wide

DECAYS = 1.0, 16.0  # the first -A lie between these


class Mamba2(nn.Module):
    """(B, L, width) to (B, L, width); token t sees the tokens up to t.

    Args:
        width: Of a token.
        state: n, numbers that a channel remembers.
        conv: Tokens under the causal convolution before the scan.
        expand: Channels inside, as a multiple of ``width``.
        head: p, channels of a head; divides expand * width.
        groups: Of heads that share B and C; divides the number of heads.
        chunk: Tokens that the scan multiplies at once; the fused kernel wants a power of 2.
        backend: Of the scan: see ``resolve``.

    Raises:
        ValueError: A size is below 1, heads or groups do not come out even, or ``backend`` is unknown, or ``fused`` and
            cannot run here, or not with this ``chunk``.
    """

    # what weight decay leaves alone; a copy keeps this, and loses marks on parameters
    undecayed = "dt_bias", "A_log", "D"

    def __init__(
        self,
        width: int,
        *,
        state: int = 64,
        conv: int = 4,
        expand: int = 2,
        head: int = 64,
        groups: int = 1,
        chunk: int = 64,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        at_least_one(width=width, state=state, conv=conv, expand=expand, head=head, groups=groups, chunk=chunk)
        inner = expand * width
        heads = _heads(inner, head, groups)
        self.head, self.groups, self.chunk = head, groups, chunk
        self.backend = checked(backend, "mamba2")
        if backend == "fused":
            fused.check_chunk(chunk)
        shared = groups * state  # of B, and of C
        convolved = inner + 2 * shared  # x, B and C
        self.sizes, self.inside = [inner, convolved, heads], [inner, shared, shared]  # z, xBC, dt; x, B, C
        self.in_proj = nn.Linear(width, sum(self.sizes), bias=False)
        self.conv1d = nn.Conv1d(convolved, convolved, conv, groups=convolved, padding=conv - 1)
        self.dt_bias = nn.Parameter(first_steps(heads))
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(*DECAYS).log())
        self.D = nn.Parameter(torch.ones(heads))
        self.norm = GatedNorm(inner, groups)
        self.out_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, L, width) to tokens."""
        z, xBC, dt = torch.split(self.in_proj(x), self.sizes, dim=2)
        xBC = silu(causal(self.conv1d, xBC.transpose(1, 2))).transpose(1, 2)
        u, B, C = torch.split(xBC, self.inside, dim=2)
        y = state_space_dual(
            torch.unflatten(u, 2, (-1, self.head)),  # (B, L, D) -> (B, L, heads, head)
            dt,
            -wide(self.A_log).exp(),
            torch.unflatten(B, 2, (self.groups, -1)),
            torch.unflatten(C, 2, (self.groups, -1)),
            chunk=self.chunk,
            D=self.D,
            dt_bias=self.dt_bias,
            dt_softplus=True,
            backend=self.backend,
        )
        out: Tensor = self.out_proj(self.norm(y.flatten(2), z))
        return out


def _heads(inner: int, head: int, groups: int) -> int:
    """How many heads there are, or what is wrong."""
    if inner % head:
        fits = [h for h in range(1, inner + 1) if inner % h == 0]
        raise ValueError(
            f"head {head} does not divide the {inner} channels inside (expand x width);"
            f" write head: {min(fits, key=lambda h: abs(h - head))}"
        )
    heads = inner // head
    if heads % groups:
        raise ValueError(f"{groups} groups cannot share {heads} heads evenly; write a divisor of {heads}")
    return heads
