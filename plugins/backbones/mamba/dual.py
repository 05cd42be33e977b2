"""Mamba-2's scan as matrix products: the state-space dual, in chunks of tokens.

Source: Dao & Gu 2024, "Transformers are SSMs" (arXiv 2405.21060), section 6: the block decomposition, figure 5 and
listing 1. Cost: linear in the tokens, quadratic in a chunk alone; L / chunk small steps carry the state from one to the
next. Nothing is ever divided by a decay, so decays of any strength neither overflow nor leave NaN.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad


def dual(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk: int) -> Tensor:
    """x (b, l, h, p), dt (b, l, h), A (h,), B and C (b, l, g, n) to y (b, l, h, p)."""
    length, heads, width = x.shape[1:]
    chunk = min(chunk, length)
    # (b, l, ...) -> (b, c, t, ...), c chunks of t tokens; s are tokens too
    X, a, B, C = (_chunks(t, chunk) for t in (dt[..., None] * x, dt * A, B, C))
    groups, shared = B.shape[3], heads // B.shape[3]
    B, C = B.permute(0, 1, 3, 4, 2), C.transpose(2, 3)  # (b, c, g, n, s), (b, c, g, t, n)
    a = a.transpose(2, 3)  # (b, c, h, t)
    # 1: the diagonal blocks, tokens to tokens of their own chunk and no later one
    decays: Tensor = _Decays.apply(a)  # (b, c, h, t, s)
    weights = (C @ B).tril()[:, :, :, None] * torch.unflatten(decays, 2, (groups, shared))
    within = (weights.flatten(2, 3) @ X.transpose(2, 3).contiguous()).transpose(2, 3)  # (b, c, t, h, p)
    # 2: what each chunk leaves behind, the right factors; the heads of a group side by side
    to_end = pad(a[..., 1:], (0, 1)).flip(-1).cumsum(-1).flip(-1).exp().transpose(2, 3)[..., None]  # (b, c, s, h, 1)
    left = B @ torch.unflatten(to_end * X, 3, (groups, shared)).flatten(4).transpose(2, 3)  # (b, c, g, n, r p)
    # 3: from chunk to chunk, the centre factors
    from_start = a.cumsum(-1).exp()
    total = torch.unflatten(from_start[..., -1], 2, (groups, shared))  # (b, c, g, r)
    start = _carry(left, total.repeat_interleave(width, dim=3)[:, :, :, None])
    # 4: what was there before a chunk to its tokens, the left factors
    before = torch.unflatten((C @ start).transpose(2, 3).flatten(3), 3, (heads, width))
    y = torch.addcmul(within, from_start.transpose(2, 3)[..., None], before)
    return y.flatten(1, 2)[:, :length]


def _chunks(x: Tensor, chunk: int) -> Tensor:
    """(b, l, ...) to (b, c, chunk, ...), the last chunk filled with tokens that do nothing: no step, no input."""
    fill = -x.shape[1] % chunk
    x = pad(x, (*(0, 0) * (x.ndim - 2), 0, fill)) if fill else x
    return torch.unflatten(x, 1, (-1, chunk))


class _Decays(torch.autograd.Function):
    """From token s to t, exp(a_{s+1} + ... + a_t), 1 for s >= t: (..., T) to (..., T, T).

    These sums are differences of running sums, which may be thousands of times larger: in high and low halves they keep
    all digits. The gradient sums what crosses each token, with no differences, for it would be lost in their rounding.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        exact = a.double().cumsum(-1)
        high = exact.to(a.dtype)
        low = (exact - high).to(a.dtype)
        between = (high[..., None] - high[..., None, :]).add_(low[..., None]).sub_(low[..., None, :])
        decays = between.tril_(-1).exp_()
        ctx.save_for_backward(decays)
        return decays

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (decays,) = ctx.saved_tensors
        # token k is crossed by what goes from s < k to t >= k
        arriving = (grad * decays).flip(-2).cumsum(-2).flip(-2)
        crossing: Tensor = arriving.tril(-1).sum(-1)
        return crossing


def _carry(left: Tensor, decay: Tensor) -> Tensor:
    """The state before each chunk, from what each leaves behind: (b, c, ...) to the same."""
    start = [torch.zeros_like(left[:, 0])]
    for left_k, decay_k in zip(left[:, :-1].unbind(1), decay[:, :-1].unbind(1), strict=True):
        start.append(torch.addcmul(left_k, decay_k, start[-1]))
    return torch.stack(start, dim=1)
