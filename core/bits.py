"""Bits per dimension of 8-bit images, by uniform dequantisation.

Source: Theis et al. 2016, "A note on the evaluation of generative models" (arXiv 1511.01844), section 3.1. Cost: one
`log_density` a draw.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .codec import Codec
from .denoiser import Denoise
from .likelihood import log_density
from .schedule import NoiseSchedule
from .streams import ImageStreams


class Bits(NamedTuple):
    """Bits a dimension of B images.

    Attributes:
        per_image: Mean over draws and probes, (B,) float64.
        error: Standard error of that mean for each image, (B,); nan where there is one draw and one probe.
    """

    per_image: Tensor
    error: Tensor


def bits_per_dim(
    denoise: Denoise,
    images: Tensor,
    codec: Codec,
    schedule: NoiseSchedule,
    streams: ImageStreams,
    probes: int = 1,
    draws: int = 1,
    steps: int = 50,
) -> Bits:
    """How many bits a number of an 8-bit image costs under the model: an upper bound, by uniform dequantisation.

    P(image) is the integral of the density over the cube of all x that decode to the image; its logarithm is at least
    the mean of the logarithm (Theis et al. 2016, equation 7). The cube is a grey level wide and has the image, as the
    network saw it in training, in its middle.

    Args:
        denoise: The denoiser, bound; unguided.
        images: uint8 (B, C, H, W).
        codec: Affine in the image: one that knows its ``grey_level``.
        schedule: Of the ODE.
        streams: Each image's random numbers, for the place in the cube and the probes.
        probes: Random directions for the trace, fresh in each draw; 0 takes the exact trace.
        draws: Places in the cube.
        steps: Of the integral.

    Raises:
        ValueError: A codec that is not affine, or counts out of range.
    """
    width = check_affine(codec)
    if probes < 0 or draws < 1:
        raise ValueError(f"likelihood takes probes >= 0 and draws >= 1; got {probes} and {draws}")
    rows = []
    for _ in range(draws):
        x0 = codec.encode(images) + width * (streams.rand() - 0.5)
        signs = torch.stack([streams.signs() for _ in range(probes)]) if probes else None
        log_p = log_density(denoise, x0, schedule, signs, steps, codec.sigma_data)
        rows.append(-(log_p / x0[0].numel() + math.log(width)) / math.log(2))
    return _summed_up(rows)


def check_affine(codec: Codec) -> float:
    """The step of x from one grey level to the next.

    Args:
        codec: To be affine in the image.

    Raises:
        ValueError: It is not.
    """
    if codec.grey_level is None:
        raise ValueError(
            f"bits are counted on pixels, and the codec {type(codec).__name__} is not affine in them (it has no "
            "grey_level); take a model of pixels"
        )
    return codec.grey_level


def _summed_up(rows: list[Tensor]) -> Bits:
    """Of (probes, B) bits for each draw; a draw's probes share its place, so it is the draws that are independent."""
    whole = torch.stack(rows)  # (draws, probes, B)
    independent = whole.mean(1) if len(whole) > 1 else whole[0]
    several = len(independent) > 1
    spread = independent.std(0) if several else torch.full_like(independent[0], torch.nan)
    return Bits(whole.mean((0, 1)), spread / len(independent) ** 0.5)
