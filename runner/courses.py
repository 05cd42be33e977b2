"""The course of a batch from its start to its images: from noise, from images, around known pixels, from encodings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core import Context, Counted, ImageStreams, inpaint, sample, start_from
from ..core.sampler import Watch
from .assemble import Sampling


@dataclass(frozen=True)
class Walk:
    """What a course is run with.

    Attributes:
        numbers: k of each image, (B,).
        sampling: Sampler and grid.
        denoise: Conditioning and guidance inside.
        streams: Each image's noise.
        context: For the sampler.
        watch: Called after each step.
    """

    numbers: Tensor
    sampling: Sampling
    denoise: Counted
    streams: ImageStreams
    context: Context
    watch: Watch | None

    def rows(self, given: Tensor) -> Tensor:
        """Row k mod n for image k, on the device, of what is given n times."""
        return given[self.numbers % len(given)].to(self.streams.device)


Course = Callable[[Walk], Tensor]  # x at the end, (B, C, *size)


def from_noise(walk: Walk) -> Tensor:
    """Samples: from pure noise down the whole grid."""
    levels = walk.sampling.levels
    x = levels[0].sigma * walk.streams.randn()
    return sample(walk.sampling.sampler, walk.denoise, x, levels, walk.context, walk.watch)


@dataclass(frozen=True)
class FromEncoded:
    """From encodings, as `dmf encode` makes them.

    Attributes:
        x: (n, C, *size) at the first level of the grid.
    """

    x: Tensor

    def __call__(self, walk: Walk) -> Tensor:
        """Down the whole grid."""
        x, levels = walk.rows(self.x), walk.sampling.levels
        return sample(walk.sampling.sampler, walk.denoise, x, levels, walk.context, walk.watch)


@dataclass(frozen=True)
class FromImages:
    """Image-to-image: from images under noise.

    Attributes:
        x0: (n, C, *size), clean.
        strength: The noise's share at the start, in (0, 1].
    """

    x0: Tensor
    strength: float

    def __call__(self, walk: Walk) -> Tensor:
        """Down the tail of the grid."""
        x0, schedule = walk.rows(self.x0), walk.context.schedule
        x, tail = start_from(x0, walk.sampling.levels, self.strength, walk.streams.randn(), schedule)
        return sample(walk.sampling.sampler, walk.denoise, x, tail, walk.context, walk.watch)


@dataclass(frozen=True)
class Inpaint:
    """New pixels amid known ones.

    Attributes:
        x0: (n, C, *size), clean.
        known: (m, 1, *size) bool, true where the pixel is kept.
        strength: The noise's share at the start, in (0, 1]; at 1 the pixels to be made anew start from pure noise.
        repeats: How often each step is taken.
    """

    x0: Tensor
    known: Tensor
    strength: float
    repeats: int

    def __call__(self, walk: Walk) -> Tensor:
        """Down the tail of the grid."""
        x0, known = walk.rows(self.x0), walk.rows(self.known)
        seen = torch.where(known, x0, torch.zeros_like(x0)) if self.strength == 1 else x0
        schedule, levels = walk.context.schedule, walk.sampling.levels
        x, tail = start_from(seen, levels, self.strength, walk.streams.randn(), schedule)
        sampler = walk.sampling.sampler
        return inpaint(sampler, walk.denoise, x, x0, known, tail, walk.context, self.repeats, walk.watch)
