"""Mamba-1's scan in chunks that run side by side: plain PyTorch, with a backward pass of its own.

Source: Gu & Dao 2023, "Mamba" (arXiv 2312.00752), algorithm 2 and section 3.3.2: a parallel scan that keeps no states
for the backward pass but computes them again. Cost: linear in time and memory; a segment of S tokens is about
3 sqrt(S) kernels, for as many images at once as the memory holds.

A row of tokens is cut into segments, one after the other, which bound the memory; a segment into c chunks of T tokens.
Three passes make a scan of a segment: the chunks' ends from a start of zero, all chunks at once; from these the state
that each begins with, chunk by chunk; the states within, all chunks at once. Every decay is a factor in (0, 1] and
nothing is divided by one, so decays of any strength neither overflow nor leave NaN.

With r_t = A_bar_t dL/dh_t, the backward pass is the same scan from the other end,
r_t = A_bar_t (r_{t+1} + C_t dL/dy_t).
"""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, isqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.flop_counter import register_flop_formula

from .precision import full_precision

NUMBERS_CPU = 2**19  # that a segment's states are made of: what a cache holds
NUMBERS_ELSEWHERE = 2**26  # 256 MiB in float32
SHORTEST = 16  # tokens in a segment, however wide

Grads = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def selective(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """u, delta (B, D, L), A (D, N), B and C (B, N, L), of one dtype, to y (B, D, L)."""
    y: Tensor = _forward(u, delta, A, B, C)[0]
    return y


class Plan(NamedTuple):
    """How a row of tokens is cut: ``segments`` of ``chunks`` of ``tokens``."""

    segments: int
    chunks: int
    tokens: int


def plan(length: int, per_token: int, device: str) -> Plan:
    """The cut for ``length`` tokens with ``per_token`` numbers of state; the last segment is filled up."""
    longest = max(SHORTEST, _numbers(device) // per_token)
    segments = ceil(length / longest)
    segment = ceil(length / segments)
    chunks = isqrt(segment)
    return Plan(segments, chunks, ceil(segment / chunks))


def _numbers(device: str) -> int:
    return NUMBERS_CPU if device == "cpu" else NUMBERS_ELSEWHERE


@torch.library.custom_op("dmf::selective_scan", mutates_args=())
def _forward(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """y (B, D, L), and the state before each segment (segments, B, N, D)."""
    cut, A = plan(u.shape[2], A.numel(), u.device.type), A.t().contiguous()
    pieces = _pieces(cut, A, u, delta, B, C)
    room = _room(cut, A, pieces, 2)
    with full_precision(u.device):
        done = [_forward_piece(cut, room, A, *piece) for piece in pieces]
    return torch.cat([y for y, _ in done]).contiguous(), torch.cat([starts for _, starts in done], dim=1).contiguous()


@torch.library.custom_op("dmf::selective_scan_backward", mutates_args=())
def _backward(gy: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, starts: Tensor) -> Grads:
    """The gradients of u, delta, A, B, C."""
    cut, A = plan(u.shape[2], A.numel(), u.device.type), A.t().contiguous()
    pieces = _pieces(cut, A, gy, u, delta, B, C, starts.transpose(0, 1))
    room = _room(cut, A, pieces, 3)
    with full_precision(u.device):
        done = [_backward_piece(cut, room, A, *piece) for piece in pieces]
    gA, *rest = zip(*done, strict=True)
    gu, gdelta, gB, gC = (torch.cat(grads).contiguous() for grads in rest)
    return gu, gdelta, torch.stack(gA).sum(0).t().contiguous(), gB, gC


@_forward.register_fake
def _(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    segments = plan(u.shape[2], A.numel(), u.device.type).segments
    return u.new_empty(u.shape), u.new_empty(segments, u.shape[0], A.shape[1], A.shape[0])


@_backward.register_fake
def _(gy: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, starts: Tensor) -> Grads:
    gu, gdelta, gA, gB, gC = (t.new_empty(t.shape) for t in (u, delta, A, B, C))
    return gu, gdelta, gA, gB, gC


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, gy: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    grads: tuple[Tensor | None, ...] = (None,) * 5 if gy is None else _backward(gy, *ctx.saved_tensors)
    return grads


_forward.register_autograd(_differentiate, setup_context=_keep)


@register_flop_formula(torch.ops.dmf.selective_scan)
def _flops(u: Sequence[int], delta: Sequence[int], A: Sequence[int], *_: object, **__: object) -> int:
    """Multiply and add, twice: into the state and out of it."""
    return 4 * u[0] * u[2] * A[0] * A[1]


@register_flop_formula(torch.ops.dmf.selective_scan_backward)
def _flops_backward(gy: Sequence[int], *forward: Sequence[int], **_: object) -> int:
    return 2 * _flops(*forward)


def _pieces(cut: Plan, A: Tensor, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """Of the batch: as many images at once as the memory for a segment holds."""
    images = max(1, _numbers(A.device.type) // (A.numel() * cut.chunks * cut.tokens))
    return list(zip(*(torch.split(t, images) for t in tensors), strict=True))


def _room(cut: Plan, A: Tensor, pieces: list[tuple[Tensor, ...]], count: int) -> Tensor:
    """What all segments are computed in, one after the other: (count, T + 1, c, b, N, D)."""
    return A.new_empty(count, cut.tokens + 1, cut.chunks, len(pieces[0][0]), *A.shape)


def _cut(x: Tensor, cut: Plan) -> Tensor:
    """(b, D, L) to (segments, T, c, b, D); tokens that fill up have neither step nor input, and change no state."""
    x = pad(x, (0, cut.segments * cut.chunks * cut.tokens - x.shape[2]))
    return x.reshape(*x.shape[:2], *cut).permute(2, 4, 3, 0, 1).contiguous()


def _join(pieces: list[Tensor], length: int) -> Tensor:
    """Segments (T, c, b, D) to (b, D, L)."""
    return torch.stack(pieces).permute(3, 4, 0, 2, 1).flatten(2)[:, :, :length]


def _scan(decays: Sequence[Tensor], states: Sequence[Tensor], total: Tensor, start: Tensor, order: range) -> None:
    """In place: states[t + 1] += decays[t] states[t], and states[0] is what each chunk begins with; each (c, b, N, D).

    Args:
        decays: T of them.
        states: T + 1, of which the first is only written.
        total: (c, b, N, D), the decay over a whole chunk.
        start: (b, N, D), the state before the first chunk.
        order: Of the chunks.
    """
    begin, end = states[0], states[1].clone()
    for a, x in zip(decays[1:], states[2:], strict=True):
        torch.addcmul(x, a, end, out=end)
    begin[order[0]] = start
    for k, following in pairwise(order):
        torch.addcmul(end[k], total[k], begin[k], out=begin[following])
    for a, before, x in zip(decays, states[:-1], states[1:], strict=True):
        x.addcmul_(a, before)


def _states(A_bar: Tensor, h: Tensor, A: Tensor, u: Tensor, delta: Tensor, B: Tensor, start: Tensor) -> Tensor:
    """Fill A_bar (T, c, b, N, D) and h_{-1} ... h_{T-1} of each chunk (T + 1, ...); the decay over a chunk (c, ...)."""
    torch.mul(delta[..., None, :], A, out=A_bar).exp_()  # equation 4
    torch.mul((delta * u)[..., None, :], B[..., None], out=h[1:])
    total = (delta.sum(0)[..., None, :] * A).exp_()
    _scan(A_bar.unbind(), h.unbind(), total, start, range(h.shape[1]))  # equation 2a
    return total


def _forward_piece(
    cut: Plan, room: Tensor, A: Tensor, u: Tensor, delta: Tensor, B: Tensor, C: Tensor
) -> tuple[Tensor, Tensor]:
    """y and the states before each segment; A is (N, D)."""
    A_bar, h = room[:, :, :, : len(u)]
    y, starts = [], [u.new_zeros(len(u), *A.shape)]
    for u_s, delta_s, B_s, C_s in zip(*(_cut(t, cut) for t in (u, delta, B, C)), strict=True):
        _states(A_bar[1:], h, A, u_s, delta_s, B_s, starts[-1])
        y.append(_times(C_s, h[1:]))  # equation 2b
        starts.append(h[-1, -1].clone())
    return _join(y, u.shape[2]), torch.stack(starts[:-1])


def _backward_piece(
    cut: Plan, room: Tensor, A: Tensor, gy: Tensor, u: Tensor, delta: Tensor, B: Tensor, C: Tensor, starts: Tensor
) -> tuple[Tensor, ...]:
    """The gradients of A, u, delta, B, C; A is (N, D), starts (b, segments, N, D)."""
    segments = list(zip(*(_cut(t, cut) for t in (gy, u, delta, B, C)), starts.transpose(0, 1), strict=True))
    after, gA = torch.zeros_like(starts[:, 0]), torch.zeros_like(A)
    done = []
    for gy_s, u_s, delta_s, B_s, C_s, start in reversed(segments):
        here = room[:, :, :, : len(u)]
        after, gA_s, *grads = _backward_segment(here, A, gy_s, u_s, delta_s, B_s, C_s, start, after)
        gA += gA_s
        done.append(grads)
    return gA, *(_join(list(pieces[::-1]), u.shape[2]) for pieces in zip(*done, strict=True))


def _backward_segment(
    room: Tensor, A: Tensor, gy: Tensor, u: Tensor, delta: Tensor, B: Tensor, C: Tensor, start: Tensor, after: Tensor
) -> tuple[Tensor, ...]:
    """r before the segment, and the gradients of A, u, delta, B, C; ``after`` is r after it."""
    A_bar, h, r = room[0, 1:], room[1], room[2]  # r_0 ... r_T of each chunk
    total = _states(A_bar, h, A, u, delta, B, start)
    gC = _times(gy, h[1:].mT)
    torch.mul(gy[..., None, :], C[..., None], out=r[:-1]).mul_(A_bar)
    _scan(A_bar.unbind()[::-1], r.unbind()[::-1], total, after, range(r.shape[1])[::-1])
    # dL/dh_t = r_{t+1} + C_t dL/dy_t; it is wanted times B, summed over the state, and times delta u, over the channels
    x = delta * u
    gx = _times(B, r[1:]) + (B * C).sum(-1, keepdim=True) * gy
    gB = _times(x, r[1:].mT) + (x * gy).sum(-1, keepdim=True) * C
    before = r[0, 0].clone()
    q = r[:-1].mul_(h[:-1])  # r_t h_{t-1}, the gradient of delta_t A
    gA = torch.mul(q, delta[..., None, :], out=A_bar).sum((0, 1, 2))
    gdelta = torch.mul(q, A, out=A_bar).sum(-2) + u * gx
    return before, gA, delta * gx, gdelta, gB, gC


def _times(rows: Tensor, matrices: Tensor) -> Tensor:
    """(..., m) by (..., m, n) to (..., n)."""
    return (rows[..., None, :] @ matrices)[..., 0, :]
