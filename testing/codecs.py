"""What any codec must hold to."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..core import Codec, DataSpec, generator
from .claims import cannot, hold, require

MakeCodec = Callable[[DataSpec], Codec]
SPECS = (
    DataSpec((1, 16, 16)),
    DataSpec((3, 32, 32), ("cat", "dog")),
    DataSpec((3, 64, 64), ("cat", "dog")),
    DataSpec((3, 256, 256)),
)
IMAGES = 4


def check_codec(make: MakeCodec) -> None:
    """Hold a codec to the interface: every check below.

    Args:
        make: Makes it from the spec of the data in pixels: the class, or a `functools.partial` of it.

    Raises:
        AssertionError: With a sentence, at the first that fails.
    """
    hold(CODEC_CHECKS, make)


def check_spec(make: MakeCodec) -> None:
    """Its spec is that of the x it makes; classes and conditions are those of the data."""
    for spec, codec in _codecs(make):
        x = codec.encode(_images(spec))
        want = (IMAGES, *codec.spec.shape)
        require(x.shape == want, f"codec for {spec.shape}: its spec says {want}, encode gave {tuple(x.shape)}")
        require(x.dtype == torch.float32, f"codec for {spec.shape}: x is to be float32; got {x.dtype}")
        require(x.isfinite().all(), f"codec for {spec.shape}: x is not finite")
        same = codec.spec.classes == spec.classes and dict(codec.spec.cond) == dict(spec.cond)
        require(same, f"codec for {spec.shape} loses classes or conditions of the data")
        require(codec.sigma_data > 0, f"codec for {spec.shape}: sigma_data is {codec.sigma_data}; it is a deviation")


def check_round_trip(make: MakeCodec) -> None:
    """Decode gives images of the data's shape; of what encode made, nearly those that went in."""
    for spec, codec in _codecs(make):
        images = _images(spec)
        back = codec.decode(codec.encode(images))
        require(
            back.shape == images.shape and back.dtype == torch.uint8,
            f"codec for {spec.shape}: decode gave {back.dtype} {tuple(back.shape)}",
        )
        off = float((back.float() - images.float()).abs().mean())
        require(off < 16, f"codec for {spec.shape}: decode(encode(images)) is {off:.0f} of 255 away on average")


def check_extremes(make: MakeCodec) -> None:
    """Whatever x a sampler ends with, decode gives an image: out of range is clipped, not wrapped round."""
    for spec, codec in _codecs(make):
        x = 10 * torch.randn(2, *codec.spec.shape, generator=generator(0, "codec", 1))
        require(codec.decode(x).dtype == torch.uint8, f"codec for {spec.shape}: decode is to give uint8")
        images = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, *spec.shape)
        beyond = codec.decode(1.05 * codec.encode(images))
        off = float((beyond.float() - images.float()).abs().mean())
        require(off < 32, f"codec for {spec.shape}: x a little beyond black and white comes back {off:.0f} away")


def check_batches(make: MakeCodec) -> None:
    """An image does not depend on those beside it."""
    for spec, codec in _codecs(make):
        images = _images(spec)
        whole = codec.encode(images)
        off = float((torch.cat([codec.encode(one[None]) for one in images]) - whole).abs().max())
        require(off < 1e-4, f"codec for {spec.shape}: x changes by {off} with the batch that an image comes in")


CODEC_CHECKS = (check_spec, check_round_trip, check_extremes, check_batches)


def _codecs(make: MakeCodec) -> list[tuple[DataSpec, Codec]]:
    """The codec for each spec that it takes; a refusal is a ValueError."""
    found = []
    refusal = ""
    for spec in SPECS:
        try:
            found.append((spec, make(spec)))
        except ValueError as error:
            refusal = str(error)
    if not found:
        cannot(f"it takes none of the shapes {', '.join(str(spec.shape) for spec in SPECS)}: {refusal}")
    return found


def _images(spec: DataSpec) -> Tensor:
    """Smooth pictures, as a codec that has learnt pictures may want; uint8."""
    random = generator(0, "codec", 0)
    small = 255 * torch.rand(IMAGES, spec.shape[0], 2, 2, generator=random)
    return torch.nn.functional.interpolate(small, spec.shape[1:], mode="bilinear").round().to(torch.uint8)
