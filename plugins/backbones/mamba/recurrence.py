"""The plain recurrences, one step after the other: what the faster backends are held against.

Source: Gu & Dao 2023, "Mamba" (arXiv 2312.00752), equations 2a, 2b; Dao & Gu 2024 (arXiv 2405.21060), equation 1.
Cost: L steps, of a handful of small kernels each, and autograd keeps every state.
"""

import torch
from torch import Tensor


def selective(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Mamba-1: u, delta (B, D, L), A (D, N), B and C (B, N, L) to y (B, D, L)."""
    h = u.new_zeros(*u.shape[:2], A.shape[1])  # (B, D, N)
    y = []
    for u_t, delta_t, B_t, C_t in zip(u.unbind(2), delta.unbind(2), B.unbind(2), C.unbind(2), strict=True):
        # equation 4 for A; for B the authors' code has its first order, delta B
        A_bar = torch.exp(delta_t[..., None] * A)
        B_bar = delta_t[..., None] * B_t[:, None]
        h = A_bar * h + B_bar * u_t[..., None]  # equation 2a
        y.append((h * C_t[:, None]).sum(-1))  # equation 2b
    return torch.stack(y, dim=2)


def dual(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Mamba-2: x (b, l, h, p), dt (b, l, h), A (h,), B and C (b, l, g, n) to y (b, l, h, p)."""
    heads = x.shape[2]
    B, C = (t.repeat_interleave(heads // t.shape[2], dim=2) for t in (B, C))  # (b, l, h, n): each head its group's
    h = x.new_zeros(*x[:, 0].shape, B.shape[-1])  # (b, h, p, n)
    y = []
    for x_t, dt_t, B_t, C_t in zip(x.unbind(1), dt.unbind(1), B.unbind(1), C.unbind(1), strict=True):
        A_bar = torch.exp(dt_t * A)[..., None, None]
        B_bar = (dt_t[..., None] * B_t)[:, :, None]
        h = A_bar * h + B_bar * x_t[..., None]
        y.append((h * C_t[:, :, None]).sum(-1))
    return torch.stack(y, dim=1)
