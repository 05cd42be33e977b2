"""What any feature extractor must hold to."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from ..core import DataSpec, FeatureExtractor, generator, probe
from .claims import called, cannot, hold, require

SHAPES = ((1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 224, 224), (3, 299, 299))
IMAGES = 6
ALONE = 4  # layers that are also asked for alone; the others go the same way
NAME = r"[A-Za-z0-9_.\-]+"  # what every tracker takes in the name of a value


def check_features(extractor: FeatureExtractor) -> None:
    """Hold a feature extractor to the interface: every check below.

    Raises:
        AssertionError: With a sentence, at the first that fails.
    """
    hold(FEATURE_CHECKS, extractor)


def check_form(extractor: FeatureExtractor) -> None:
    """Float32 (B, D) for each layer, finite, without a gradient; D as declared, and the same asked for alone."""
    require(extractor.layers, f"{called(extractor)} declares no layer")
    images = _images(extractor)
    before = images.clone()
    with torch.enable_grad():
        together = extractor(images, tuple(extractor.layers))
    require(torch.equal(images, before), f"{called(extractor)} changes the images that it looks at")
    for number, (layer, dim) in enumerate(extractor.layers.items()):
        found, want = together.get(layer), (IMAGES, dim)
        require(found is not None, f"{called(extractor)} is asked for the layers {tuple(extractor.layers)}; no {layer}")
        assert found is not None
        require(found.shape == want, f"{called(extractor)} declares {want}, and gives {tuple(found.shape)}")
        require(found.dtype == torch.float32, f"{called(extractor)}: features are to be float32; got {found.dtype}")
        require(found.isfinite().all(), f"{called(extractor)}: a feature is not finite")
        require(
            not found.requires_grad, f"{called(extractor)}: features carry a gradient, and with it the memory of it"
        )
        alone = extractor(images, (layer,))[layer] if number < ALONE else found
        require(torch.equal(alone, found), f"{called(extractor)}: layer {layer} is another when asked for alone")


def check_batches(extractor: FeatureExtractor) -> None:
    """An image's features do not depend on those beside it, and are the same every time."""
    images = _images(extractor)
    whole = _first(extractor, images)
    parts = torch.cat([_first(extractor, one) for one in torch.split(images, [1, 2, 3])])
    off = float((parts - whole).abs().max() / whole.abs().max().clamp(min=1e-9))
    require(off < 1e-4, f"{called(extractor)}: features change by {off:.1e} with the batch; is it in eval mode?")
    require(torch.equal(_first(extractor, images), whole), f"{called(extractor)} gives other features when asked again")


def check_surroundings(extractor: FeatureExtractor) -> None:
    """Neither autocast nor inference mode around it changes a feature: evaluation runs in the midst of a training."""
    images = _images(extractor)
    plain = _first(extractor, images)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        within = _first(extractor, images)
    require(torch.equal(within, plain), f"{called(extractor)} gives other features within autocast or inference mode")


def check_eyes(extractor: FeatureExtractor) -> None:
    """Unlike images have unlike features."""
    found = _first(extractor, _images(extractor))
    apart = torch.cdist(found, found) + torch.eye(IMAGES) * 1e9
    require(apart.min() > 0, f"{called(extractor)} gives two images the same features")


def check_protocol(extractor: FeatureExtractor) -> None:
    """It has a name, and says as texts what must be equal for two values to be compared, before and after its work."""
    protocol = extractor.protocol()
    fits = re.fullmatch(NAME, extractor.name)
    require(
        fits,
        f"{called(extractor)} has the name {extractor.name!r}; results are called after it: letters, digits, _ . -",
    )
    texts = bool(protocol) and all(isinstance(one, str) for pair in protocol.items() for one in pair)
    require(texts, f"{called(extractor)}: protocol() is to say in texts whose weights these are; got {protocol}")
    _first(extractor, _images(extractor))
    after = extractor.protocol()
    require(after == protocol, f"{called(extractor)}: protocol() is another after the first images: {after}")


def check_refuses(extractor: FeatureExtractor) -> None:
    """What `check` lets pass is read; what is refused is refused by a ValueError with a sentence."""
    for shape in SHAPES:
        try:
            extractor.check(DataSpec(shape))
        except ValueError as error:
            require(str(error), f"{called(extractor)} refuses {shape} without a word")
            continue
        try:
            probe(extractor, DataSpec(shape))
        except ValueError as error:
            require(False, f"{called(extractor)} accepts {shape}, and then: {error}")


FEATURE_CHECKS = (check_form, check_batches, check_surroundings, check_eyes, check_protocol, check_refuses)


def accepted(extractor: FeatureExtractor) -> tuple[int, ...]:
    """The first shape of images that it reads."""
    for shape in SHAPES:
        try:
            extractor.check(DataSpec(shape))
        except ValueError:
            continue
        return shape
    cannot(f"{called(extractor)} reads none of the shapes {SHAPES}")


def _first(extractor: FeatureExtractor, images: Tensor) -> Tensor:
    layer = next(iter(extractor.layers))
    return extractor(images, (layer,))[layer]


def _images(extractor: FeatureExtractor) -> Tensor:
    return _random(accepted(extractor), IMAGES)


def _random(shape: tuple[int, ...], count: int) -> Tensor:
    return torch.randint(256, (count, *shape), generator=generator(0, "features", 0), dtype=torch.uint8)
