"""Geometric changes that the network is told of, so that they do not leak into samples.

Source: Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models" (arXiv 2206.00364),
appendix F.2 and table 6. The paper takes probability 0.12 for CIFAR-10 and 0.15 for FFHQ and AFHQv2. Cost: see `_warp`.

| change | parameters | transform | label |
|---|---|---|---|
| mirror left to right, always a half | a0 in {0, 1} | SCALE(1 - 2 a0, 1) | a0 |
| mirror top to bottom | a1 in {0, 1} | SCALE(1, 1 - 2 a1) | a1 |
| scaling | a2 ~ N(0, 1) | SCALE(s, s), s = 2^(a2 / 5) | a2 |
| rotation | a3 ~ U(-pi, pi) | ROTATE(-a3) | cos a3 - 1, sin a3 |
| anisotropy | a4 like a3, a5 ~ N(0, 1) | ROTATE(a4) SCALE(r, 1/r) ROTATE(-a4), r = 2^(a5 / 5) | a5 (cos a4, sin a4) |
| translation | a6, a7 ~ N(0, 1) | TRANSLATE(W a6 / 8, H a7 / 8) | a6, a7 |

Each is done with the probability given, or else its parameters are 0; in this order, and about the middle of the image.
"""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge, Le
from torch import Tensor

from ...core import Augmentation, CondSpec, DataSpec
from ._warp import warp

LABELS = 9


class Parameters(NamedTuple):
    """a0 to a7 of the table, (B,) float64 each; 0 where nothing is done."""

    mirror_x: Tensor
    mirror_y: Tensor
    scaling: Tensor
    rotation: Tensor
    direction: Tensor
    anisotropy: Tensor
    shift_x: Tensor
    shift_y: Tensor


class EDM(Augmentation):
    """Mirror, scale, rotate, stretch and move images, and tell the network how: samples show none of it.

    Args:
        spec: Of the data, in pixels.
        probability: Of each change but the mirroring left to right, which is done to half of the images. What moves in
            from outside is the image mirrored at its edges.
        scaling: Standard deviation of the scaling's binary logarithm; 0 never scales.
        rotation: The largest turn in degrees, to either side; 0 never turns.
        anisotropy: Standard deviation of the binary logarithm by which one direction is stretched, and the one across
            compressed; 0 never stretches.
        translation: Standard deviation of the shifts, in widths and heights of the image; 0 never shifts.
    """

    label = ("augmentation", CondSpec("vector", (LABELS,), neutral=True))
    draws = 12

    def __init__(
        self,
        spec: DataSpec,
        *,
        probability: Annotated[float, Ge(0), Le(1)] = 0.12,
        scaling: Annotated[float, Ge(0), Le(1)] = 0.2,
        rotation: Annotated[float, Ge(0), Le(180)] = 180.0,
        anisotropy: Annotated[float, Ge(0), Le(1)] = 0.2,
        translation: Annotated[float, Ge(0), Le(1)] = 0.125,
    ) -> None:
        super().__init__(spec)
        self.probability = probability
        self.scaling, self.rotation, self.anisotropy, self.translation = scaling, rotation, anisotropy, translation

    def __call__(self, images: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (B, C, H, W) and (B, 12) to images of the same shape and their labels, (B, 9)."""
        a = self.parameters(draws)
        label = labels(a)
        x, y = ((m > 0)[:, None, None, None] for m in (a.mirror_x, a.mirror_y))
        mirrored = torch.where(x, images.flip(-1), images)
        mirrored = torch.where(y, mirrored.flip(-2), mirrored)
        moved = warp(mirrored.float(), self.back(a, *images.shape[2:])).round().clamp(0, 255).to(torch.uint8)
        # who is not moved keeps every bit: no resampling
        stays = (label[:, 2:] == 0).all(1)[:, None, None, None]
        return torch.where(stays, mirrored, moved), label

    def parameters(self, draws: Tensor) -> Parameters:
        """The table's second column from uniform numbers, (B, 12)."""
        u = draws.to(torch.float64).unbind(1)
        zero = torch.zeros_like(u[0])

        def perhaps(gate: Tensor, value: Tensor, size: float) -> Tensor:
            return torch.where(gate < self.probability, value, zero) if size else zero

        return Parameters(
            mirror_x=(u[0] < 0.5).double(),
            mirror_y=(u[1] < 0.5 * self.probability).double(),
            scaling=perhaps(u[2], _normal(u[3]), self.scaling),
            rotation=perhaps(u[4], math.radians(self.rotation) * (2 * u[5] - 1), self.rotation),
            direction=perhaps(u[6], math.pi * (2 * u[7] - 1), self.anisotropy),
            anisotropy=perhaps(u[6], _normal(u[8]), self.anisotropy),
            shift_x=perhaps(u[9], _normal(u[10]), self.translation),
            shift_y=perhaps(u[9], _normal(u[11]), self.translation),
        )

    def back(self, a: Parameters, height: int, width: int) -> Tensor:
        """From places in the result to places in the mirrored image, (B, 2, 3): the table's transforms undone.

        G = TRANSLATE ROTATE SCALE ROTATE ROTATE SCALE takes places to where they go, the rightmost first; so its
        inverse has the inverse of each in the opposite order. In pixels from the middle, x to the right, y down.
        """
        s, r = (2 ** (-size * by) for size, by in ((self.scaling, a.scaling), (self.anisotropy, a.anisotropy)))
        undone = _scale(s, s) @ _rotate(a.rotation)
        undone = undone @ _rotate(a.direction) @ _scale(r, 1 / r) @ _rotate(-a.direction)  # (B, 2, 2)
        shift = self.translation * torch.stack([width * a.shift_x, height * a.shift_y], 1)[:, :, None]  # (B, 2, 1)
        return torch.cat([undone, -undone @ shift], 2).float()


def labels(a: Parameters) -> Tensor:
    """The table's last column, (B, 9)."""
    rotation = a.rotation.cos() - 1, a.rotation.sin()
    stretch = a.anisotropy * a.direction.cos(), a.anisotropy * a.direction.sin()
    return torch.stack([a.mirror_x, a.mirror_y, a.scaling, *rotation, *stretch, a.shift_x, a.shift_y], 1).float()


def _normal(u: Tensor) -> Tensor:
    """Standard normal numbers from uniform ones, which may be 0."""
    normal: Tensor = torch.special.ndtri(u.clamp(2**-25, 1 - 2**-25))
    return normal


def _scale(x: Tensor, y: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([x, y], 1))  # (B, 2, 2)


def _rotate(angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)  # (B, 2, 2)
