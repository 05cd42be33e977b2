"""Muon: the step of a hidden matrix is its momentum with all singular values made 1; other weights go by AdamW.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"
(kellerjordan.github.io/posts/muon), algorithm 2 and the coefficients of its Newton-Schulz iteration; scale and weight
decay as in Liu et al. 2025, "Muon is Scalable for LLM Training" (arXiv 2502.16982), equation 4.

Cost: 5 iterations of 3 products of a matrix by another of its size, in bfloat16 on GPUs; one moment instead of two.
"""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from ...core import WeightGroup
from ...core.shards import placed_like, whole
from ._groups import Beta, Fused, kernels, torch_groups

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
SCALES: dict[str, Callable[[int, int], float]] = {
    # (4) of Liu et al.: the root mean square of AdamW's steps
    "rms": lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)),
    "spectral": lambda rows, columns: math.sqrt(max(1.0, rows / columns)),
}


def muon(
    groups: Sequence[WeightGroup],
    *,
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.95,
    nesterov: bool = True,
    scale: Literal["rms", "spectral"] = "rms",
    iterations: Annotated[int, Ge(1)] = 5,
    betas: tuple[Beta, Beta] = (0.9, 0.95),
    eps: Annotated[float, Gt(0)] = 1e-8,
    weight_decay: Annotated[float, Ge(0)] = 0.0,
    fused: Fused = "auto",
) -> torch.optim.Optimizer:
    """Muon for the hidden matrices, convolutions among them, and AdamW for all else.

    Args:
        groups: The weights; those of hidden groups go by Muon.
        momentum: Share of the old gradients' mean that stays in a step.
        nesterov: Look ahead by one more share of momentum.
        scale: `rms` makes Muon's steps as large as AdamW's, so that one learning rate, and AdamW's, does for both;
            `spectral` is its authors' first scale, which wants a rate of about 0.02 for the hidden matrices.
        iterations: Of Newton and Schulz.
        betas: AdamW's.
        eps: AdamW's.
        weight_decay: Share of a weight, times the learning rate, that a step takes away; in both.
        fused: Take torch's fused step, one kernel for all weights; `auto` does where there is one.

    Raises:
        ValueError: No group is hidden.
    """
    if not any(group.hidden for group in groups):
        raise ValueError(
            "muon found no hidden matrices: the backbone's blocks() holds none that are trained; use adamw, or let the "
            "backbone name its blocks"
        )
    made = torch_groups(groups, weight_decay)
    for mine, group in zip(made, groups, strict=True):
        mine |= {"hidden": group.hidden, "momentum": momentum, "nesterov": nesterov}
        mine |= {"scale": scale, "iterations": iterations}
    return Muon(made, betas=betas, eps=eps, **kernels(fused, groups))


class Muon(torch.optim.AdamW):
    """AdamW, but for the groups that are ``hidden``."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step of both; a bad one (``found_inf``) changes nothing, and the host does not wait to see it."""
        every = self.param_groups
        for group in (g for g in every if g["hidden"]):
            for weight in (w for w in group["params"] if w.grad is not None):
                self._step_matrix(weight, group)
        self.param_groups = [g for g in every if not g["hidden"]]
        try:
            return super().step(closure)
        finally:
            self.param_groups = every

    def _step_matrix(self, weight: Tensor, group: dict[str, Any]) -> None:
        state, mu, gradient = self.state[weight], group["momentum"], weight.grad
        assert gradient is not None, "asked by the caller"
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        old: Tensor = state["momentum_buffer"]
        B = old.lerp(gradient, 1 - mu)
        ahead = gradient.lerp(B, mu) if group["nesterov"] else B
        M = whole(ahead).flatten(1)  # a convolution as the matrix (out, in times window)
        UV = placed_like(orthogonal(M, group["iterations"]).reshape(ahead.shape), weight)
        # (4) of Liu et al.
        moved = SCALES[group["scale"]](*M.shape) * UV + group["weight_decay"] * weight
        bad = getattr(self, "found_inf", None)
        for held, new in ((old, B), (weight, weight - group["lr"] * moved)):
            held.copy_(new if bad is None else torch.where(bad > 0, held, new))


def orthogonal(G: Tensor, iterations: int) -> Tensor:
    """About U V^T of G = U S V^T: singular values of 0.7 to 1.2, which do as well as 1.

    Args:
        G: (m, n).
        iterations: Of Newton and Schulz.
    """
    a, b, c = COEFFICIENTS
    X = G.to(torch.bfloat16) if G.device.type == "cuda" else G
    X = X.T if X.shape[0] > X.shape[1] else X  # the products are of the shorter side
    X = X / X.norm().clamp(min=1e-7)
    for _ in range(iterations):
        A = X @ X.T
        X = a * X + (b * A + c * A @ A) @ X  # the post's phi(X), of odd degree: it acts on singular values alone
    found: Tensor = X.T if G.shape[0] > G.shape[1] else X
    return found.to(G.dtype)
