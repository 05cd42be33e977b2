"""Encoding: from an image back to the noise that a deterministic sampler turns into it.

Source: Song et al. 2021, "Score-Based Generative Modeling" (arXiv 2011.13456), section 4.3; with `ddim` it is Song et
al. 2020 (arXiv 2010.02502), section 4.3. Every step is the sampler's own, taken upwards, so order and cost are the
sampler's; the last step, which ends at sigma = 0, is undone by a fixed point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .denoiser import Denoise
from .level import Level
from .sampler import Context, Sampler, Watch, sample

TRIES = 100  # steps of the fixed point; it gains a factor of sigma / alpha over the data's own width with each
GAIN = 0.99  # a residual that does not fall below this share of the best one is no gain
PATIENCE = 4  # steps without gain


def encode(
    sampler: Sampler[Any],
    denoise: Denoise,
    x0: Tensor,
    levels: Sequence[Level],
    context: Context,
    tolerance: float = 1e-3,
    watch: Watch | None = None,
) -> Tensor:
    """The x at ``levels[0]`` from which ``sampler`` comes to ``x0``.

    How near `sample` comes back to x0 is the sampler's order: with `heun`, twice the steps a fourth of the error; with
    `rk45` its tolerance.

    Args:
        sampler: A deterministic one.
        denoise: The denoiser, bound.
        x0: (B, C, *size), clean.
        levels: As for `sample`, noisiest first, sigma = 0 at the end; at least two steps.
        context: Its ``levels`` and ``index`` are filled in here.
        tolerance: Largest error, in any pixel, with which the last step may be undone.
        watch: Called after each step with its number, x and the level reached, the clean end's first.

    Raises:
        ValueError: A stochastic sampler, a single step, or a last step that cannot be undone.
    """
    if sampler.stochastic:
        raise ValueError(
            f"{type(sampler).__name__} draws random numbers with its options, so it cannot be walked back; "
            "encode with a deterministic sampler: rk45, heun without churn, ddim with eta = 0"
        )
    if len(levels) < 3:
        raise ValueError(f"encoding needs at least two steps, from image to noise; got {len(levels) - 1}: take more")
    there = replace(context, levels=levels, index=len(levels) - 2)
    x = _undo_last(sampler, denoise, x0, levels[-2], levels[-1], there, tolerance)
    return sample(sampler, denoise, x, levels[-2::-1], context, watch)


def _undo_last(
    sampler: Sampler[Any], denoise: Denoise, x0: Tensor, now: Level, clean: Level, context: Context, tolerance: float
) -> Tensor:
    """The x at ``now`` that the sampler's step to the clean end takes to ``x0``, each image on its own."""
    one_an_image = (len(x0), *[1] * (x0.ndim - 1))
    enough = 8 * torch.finfo(x0.dtype).eps * x0.abs().flatten(1).amax(1).clamp(min=1).reshape(one_an_image)
    y = best = x0  # x / alpha
    left = torch.full(one_an_image, torch.inf, dtype=x0.dtype, device=x0.device)
    stale = torch.zeros_like(left)
    for _ in range(TRIES):
        x = now.alpha * y
        image, _ = sampler.step(denoise, x, now, clean, sampler.init(x), context)
        missing = x0 - image
        residual = missing.abs().flatten(1).amax(1).reshape(one_an_image)
        stale = torch.where(residual < GAIN * left, torch.zeros_like(stale), stale + 1)
        best, left = torch.where(residual < left, y, best), torch.fmin(residual, left)
        done = (left <= enough) | (stale >= PATIENCE)
        if done.all():
            break
        y = torch.where(done, best, y + missing)  # y <- x0 + (y - x0_hat(y))
    _check(left.flatten(), now, tolerance)
    return now.alpha * best


def _check(left: Tensor, now: Level, tolerance: float) -> None:
    """Accept the residuals, (B,).

    Raises:
        ValueError: One is too large.
    """
    if (left <= tolerance).all():
        return
    worst = int(left.argmax())
    raise ValueError(
        f"the last step cannot be undone for image {worst}: from sigma / alpha = {float(now.ratio):.3g} the sampler "
        f"comes no nearer to it than {float(left[worst]):.2g} (allowed: {tolerance:.2g}); start at a cleaner level "
        "(more steps, a smaller sigma_min of the grid), or take an image more like the training data"
    )
