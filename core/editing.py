"""Inpainting and image-to-image, from any sampler: the denoiser is told what is known, the walk starts where it should.

Sources: Meng et al. 2022, "SDEdit" (arXiv 2108.01073), algorithm 1 (`start_from`); Lugmayr et al. 2022, "RePaint"
(arXiv 2201.09865), algorithm 1 (`inpaint` with repeats). Cost: the sampler's own; times the repeats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .denoiser import Denoise
from .level import Level
from .sampler import Context, Sampler, Watch
from .schedule import NoiseSchedule


def start_from(
    x0: Tensor, levels: Sequence[Level], strength: float, eps: Tensor, schedule: NoiseSchedule
) -> tuple[Tensor, list[Level]]:
    """Image-to-image: x0 under some noise, and the part of the grid that is left to walk.

    The strength is the noise's share sigma / (alpha + sigma) at the level that the walk starts from, so it means the
    same on every schedule, grid and number of steps: 0.5 is as much noise as image.

    Args:
        x0: (B, C, *size), clean.
        levels: The whole grid, noisiest first.
        strength: In (0, 1]; a share beyond that of ``levels[0]``, as 1 is, starts there.
        eps: Standard normal, shaped like x0.
        schedule: Gives the level of that strength.

    Returns:
        x at the first level of the tail, and the tail: that level, and those of the grid that are cleaner.

    Raises:
        ValueError: A strength out of range, or below the cleanest level of the schedule.
    """
    if not 0 < strength <= 1:
        raise ValueError(f"the strength is above 0 and at most 1; got {strength:g}")
    first = levels[0]
    if strength < 1 and strength / (1 - strength) < first.ratio:
        first = schedule.at(schedule.t_at(_log_snr_of(strength, schedule)))
    tail = [first, *(level for level in levels[1:] if level.log_snr > first.log_snr)]
    return first.mix(x0, eps), tail


def known_pixels(denoise: Denoise, known: Tensor, mask: Tensor) -> Denoise:
    """The denoiser of one who knows some of the pixels: there x0_hat is the known value.

    Under it every sampler takes the known pixels down as it takes data of one point: a deterministic one along
    alpha x0 + sigma eps with one eps, a stochastic one with the noise that it adds.

    Args:
        denoise: (x, level) -> x0_hat.
        known: (B or 1, C, *size), clean; what it holds elsewhere is not looked at.
        mask: bool, broadcast to it, true where a pixel is known.
    """
    return lambda x, level: torch.where(mask, known.to(x.dtype), denoise(x, level))


def inpaint(
    sampler: Sampler[Any],
    denoise: Denoise,
    x: Tensor,
    known: Tensor,
    mask: Tensor,
    levels: Sequence[Level],
    context: Context,
    repeats: int = 1,
    watch: Watch | None = None,
) -> Tensor:
    """Walk x from the first level to the last, the known pixels staying what they are, exactly so at sigma = 0.

    The new pixels are drawn from p(unknown | known) only approximately: at each level the network is asked about the
    known pixels under that level's noise, not about what they are. More steps do not mend this.

    With ``repeats`` every step but the last is taken that many times, with fresh noise back up in between, which
    gives the new pixels time to come to terms with the known ones. What a multistep method remembers is dropped there.

    Args:
        sampler: Takes the steps.
        denoise: The denoiser, bound.
        x: (B, C, *size) at ``levels[0]``: ``levels[0].mix(known, eps)``, or noise where nothing is known.
        known: (B, C, *size), clean; what it holds where nothing is known is looked at by nobody.
        mask: bool, broadcast to it, true where a pixel is known.
        levels: As for `sample`.
        context: As for `sample`; its random numbers take x back up.
        repeats: How often each step is taken, the paper's U; at least 1.
        watch: Called after each step, the last of its repeats.

    Raises:
        ValueError: Fewer than one repeat, or a grid without a step.
    """
    if repeats < 1:
        raise ValueError(f"each step is taken at least once; got repeats = {repeats}")
    if len(levels) < 2:
        raise ValueError(f"sampling needs at least two levels, from and to; got {len(levels)}")
    denoise = known_pixels(denoise, known, mask)
    state = sampler.init(x)
    for i, (now, then) in enumerate(pairwise(levels)):
        here = replace(context, levels=levels, index=i)
        for _ in range(repeats - 1 if then.sigma > 0 else 0):
            x, _ = sampler.step(denoise, x, now, then, state, here)
            x = _back_up(x, then, now, context.randn())  # line 9
            state = sampler.init(x)
        x, state = sampler.step(denoise, x, now, then, state, here)
        if watch is not None:
            watch(i, x, then)
    # a method that extrapolates over its last step, as `adams` does, comes near to what is known and no nearer
    return x if levels[-1].sigma > 0 else torch.where(mask, known.to(x.dtype), x)


def _back_up(x: Tensor, then: Level, now: Level, eps: Tensor) -> Tensor:
    """X at ``then`` with as much fresh noise as brings it to the noisier ``now``: q(x_now | x_then)."""
    added = (now.ratio**2 - then.ratio**2).sqrt()
    return now.alpha / then.alpha * x + now.alpha * added * eps


def _log_snr_of(strength: float, schedule: NoiseSchedule) -> Tensor:
    """Log SNR = 2 ln((1 - s) / s) of a noise share s.

    Raises:
        ValueError: The schedule has no level as clean.
    """
    wanted = -2 * torch.logit(torch.tensor(strength, dtype=torch.float64))
    cleanest = schedule.at(schedule.ends()[1])
    if wanted > cleanest.log_snr:
        least = float(cleanest.sigma / (cleanest.alpha + cleanest.sigma))
        raise ValueError(f"strength {strength:g} is less noise than the schedule's least, {least:.2g}; give more")
    return wanted
