"""The two scans, each one function over three backends, with mamba-ssm's arguments and shapes.

Source: Gu & Dao 2023, "Mamba" (arXiv 2312.00752), section 3, algorithm 2; Dao & Gu 2024, "Transformers are SSMs"
(arXiv 2405.21060), section 6.
"""

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from .._checks import at_least_one
from . import chunked, dual, fused, recurrence
from .backends import Backend, Layer, Resolved, resolve
from .precision import full_precision, wide


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    backend: Backend = "auto",
) -> Tensor:
    """Mamba-1's scan: h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t, y_t = C_t h_t + D u_t, times silu(z_t).

    It is computed in float32 where the input is narrower.

    Args:
        u: (B, D, L), the input.
        delta: (B, D, L), the step sizes, before bias and softplus.
        A: (D, N), negative.
        B: (B, N, L), into the state.
        C: (B, N, L), out of the state.
        D: (D,), past the state; None is 0.
        z: (B, D, L), the gate; None is no gate.
        delta_bias: (D,), added to ``delta``.
        delta_softplus: Whether the step sizes are the softplus of that.
        backend: ``fused``, ``torch`` (chunks), ``reference`` (the recurrence), or ``auto``, see ``resolve``.

    Returns:
        y (B, D, L), of u's dtype.

    Raises:
        ValueError: Shapes do not go together, L, D or N is 0, or ``backend`` cannot be used.
    """
    batch, channels, length = u.shape
    rows, state = (batch, channels, length), A.shape[-1]
    at_least_one(D=channels, L=length, N=state)
    _shapes(delta=(delta, rows), z=(z, rows), A=(A, (channels, state)), B=(B, (batch, state, length)))
    _shapes(C=(C, (batch, state, length)), D=(D, (channels,)), delta_bias=(delta_bias, (channels,)))
    chosen = _chosen(backend, "mamba1", u)
    if chosen == "fused":
        return fused.selective(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    x, A, B, C = (wide(t) for t in (u, A, B, C))
    delta = _steps(wide(delta), None if delta_bias is None else delta_bias[:, None], delta_softplus)
    y = (recurrence if chosen == "reference" else chunked).selective(x, delta, A, B, C)
    return _past(y, x, None if D is None else D[:, None], z).to(u.dtype)


def state_space_dual(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    chunk: int,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    """Mamba-2's scan: S_t = exp(dt_t A) S_{t-1} + dt_t x_t B_t^T, y_t = S_t C_t + D x_t, times silu(z_t).

    It is computed in float32 where the input is narrower.

    Args:
        x: (b, l, h, p), the input: h heads of p channels.
        dt: (b, l, h), the step sizes, before bias and softplus.
        A: (h,), negative.
        B: (b, l, g, n), into the state; g groups share the h heads evenly.
        C: (b, l, g, n), out of the state.
        chunk: Tokens that are multiplied at once, at least 1; the reference has no use for it.
        D: (h,), past the state; None is 0.
        z: (b, l, h, p), the gate; None is no gate.
        dt_bias: (h,), added to ``dt``.
        dt_softplus: Whether the step sizes are the softplus of that.
        backend: ``fused``, ``torch`` (matrix products), ``reference`` (the recurrence), or ``auto``, see ``resolve``.

    Returns:
        y (b, l, h, p), of x's dtype.

    Raises:
        ValueError: Shapes do not go together, a size beside the batch or ``chunk`` is below 1, or ``backend`` cannot be
            used.
    """
    batch, length, heads, width = x.shape
    groups, state = B.shape[-2:]
    at_least_one(l=length, h=heads, p=width, g=groups, n=state, chunk=chunk)
    if heads % groups:
        raise ValueError(f"{groups} groups of B and C cannot share {heads} heads evenly; take a divisor of {heads}")
    _shapes(dt=(dt, (batch, length, heads)), z=(z, tuple(x.shape)), A=(A, (heads,)), D=(D, (heads,)))
    _shapes(B=(B, (batch, length, groups, state)), C=(C, (batch, length, groups, state)), dt_bias=(dt_bias, (heads,)))
    chosen = _chosen(backend, "mamba2", x)
    if chosen == "fused":
        return fused.dual(x, dt, A, B, C, chunk=chunk, D=D, z=z, dt_bias=dt_bias, dt_softplus=dt_softplus)
    with full_precision(x.device):  # it is products of matrices; so are parts of Mamba-1's, which see to it themselves
        u, A, B, C = (wide(t) for t in (x, A, B, C))
        dt = _steps(wide(dt), dt_bias, dt_softplus)
        y = recurrence.dual(u, dt, A, B, C) if chosen == "reference" else dual.dual(u, dt, A, B, C, chunk)
        return _past(y, u, None if D is None else D[:, None], z).to(x.dtype)


def _chosen(backend: Backend, layer: Layer, x: Tensor) -> Resolved:
    if x.dtype == torch.float64 and backend in ("auto", "fused"):  # which the kernels have not
        if backend == "fused":
            raise ValueError("the fused kernels take no float64; write backend: torch")
        return "torch"
    return resolve(backend, layer, x.device)


def _shapes(**tensors: tuple[Tensor | None, tuple[int, ...]]) -> None:
    for name, (tensor, shape) in tensors.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name} goes with the other arguments in shape {shape}; got {tuple(tensor.shape)}")


def _steps(delta: Tensor, bias: Tensor | None, is_raw: bool) -> Tensor:
    delta = delta if bias is None else delta + bias
    # contiguous: of another layout, a compiled graph is told a wrong one for the gradient of softplus
    return softplus(delta.contiguous()) if is_raw else delta


def _past(y: Tensor, x: Tensor, D: Tensor | None, z: Tensor | None) -> Tensor:
    """What goes past the state, and the gate."""
    y = y if D is None else y + D * x
    return y if z is None else y * silu(wide(z))
