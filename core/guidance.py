"""Guidance: how two denoisers become one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .level import Level, like

Guidance = Callable[[Tensor, Tensor, Level], Tensor]


def cfg(conditional: Tensor, reference: Tensor, level: Level, *, scale: float | Tensor) -> Tensor:
    """Classifier-free guidance: x0_ref + w (x0_cond - x0_ref).

    Ho & Salimans 2022 (arXiv 2207.12598), equation 6, with w their 1 + w, and x0_hat in place of the noise, which
    is linear in it. Cost: one batch of twice the size.

    Args:
        conditional: x0_hat given the class, (B, C, *size).
        reference: x0_hat without it, likewise.
        level: The level; not used.
        scale: w; 1 is no guidance, 0 unconditional. A float, or (B,) for a scale per image.
    """
    w = torch.as_tensor(scale, dtype=torch.float64)
    if w.ndim:
        w = w.reshape(-1, *[1] * (conditional.ndim - 1))
    return reference + like(w, reference) * (conditional - reference)
