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


def check_moments(make: MakeCodec) -> None:
    """Moments are of the shape that it says and not random; x is drawn from them, and without noise is encode's."""
    for spec, codec in _codecs(make):
        images, shape = _images(spec), codec.moment_shape
        moments = codec.moments(images)
        gave = "none" if moments is None else "some"
        agree = (moments is None) == (shape is None)
        require(agree, f"codec for {spec.shape}: moment_shape is {shape}, and moments gave {gave}")
        if moments is None or shape is None:
            continue
        want = (torch.float32, IMAGES, *shape)
        require(
            (moments.dtype, *moments.shape) == want,
            f"codec for {spec.shape}: moments are to be float32 {want[1:]}; got {moments.dtype} {tuple(moments.shape)}",
        )
        again = codec.moments(images)
        require(again is not None and torch.equal(again, moments), f"codec for {spec.shape}: moments change")
        eps = torch.randn(IMAGES, *codec.spec.shape, generator=generator(0, "codec", 2))
        require(
            torch.equal(codec.draw(moments, eps), codec.draw(moments, eps)), f"codec for {spec.shape}: draws change"
        )
        off = float((codec.draw(moments, 0 * eps) - codec.encode(images)).abs().max())
        require(off < 1e-4, f"codec for {spec.shape}: a draw without noise is {off} away from what encode gives")


def check_facts(make: MakeCodec) -> None:
    """Facts are texts, and the same each time that it is built; a codec with moments, which may be kept, has some."""
    for spec, codec in _codecs(make):
        facts = codec.facts()
        texts = all(isinstance(text, str) for pair in facts.items() for text in pair)
        require(texts, f"codec for {spec.shape}: facts are to be texts by name; got {facts!r}")
        require(make(spec).facts() == facts, f"codec for {spec.shape}: facts change with each one that is built")
        known = bool(facts) or codec.moment_shape is None
        require(known, f"codec for {spec.shape}: it has moments and no facts, which kept moments are known by")


CODEC_CHECKS = (check_spec, check_round_trip, check_extremes, check_batches, check_moments, check_facts)


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
