"""What any augmentation must hold to."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from ..core import Augmentation, DataSpec, generator
from .claims import called, cannot, hold, require

MakeAugmentation = Callable[[DataSpec], Augmentation]
IMAGES = 16
SPECS = (
    DataSpec((3, 16, 16)),
    DataSpec((1, 12, 20), ("cat", "dog")),
    DataSpec((3, 33, 17)),
    DataSpec((3, 1, 1)),
)


def check_augmentation(make: MakeAugmentation) -> None:
    """Hold an augmentation to the interface: every check below.

    Args:
        make: Makes it from the spec of the data in pixels: the class, or a `functools.partial` of it.

    Raises:
        AssertionError: With a sentence, at the first that fails.
    """
    hold(AUGMENTATION_CHECKS, make)


def check_form(make: MakeAugmentation) -> None:
    """Images in, images out, uint8 and of the same shape; the label as it is declared, neutral and no class."""
    for spec, change in _made(make):
        who = f"{called(change)} for {spec.shape}"
        require(isinstance(change.draws, int) and change.draws >= 0, f"{who}: draws is {change.draws!r}, not a count")
        images = _images(spec)
        changed, label = change(images, _draws(change))
        require(
            changed.dtype == torch.uint8 and changed.shape == images.shape,
            f"{who}: gave {changed.dtype} {tuple(changed.shape)}, not torch.uint8 {tuple(images.shape)}",
        )
        require((label is None) == (change.label is None), f"{who}: it gives a label and declares none, or the reverse")
        if change.label is not None and label is not None:
            name, declared = change.label
            require(
                declared.neutral and declared.kind == "vector" and name != "class",
                f"{who}: its label {name!r} must be a neutral vector, for sampling fills in zeros; got {declared}",
            )
            want = (IMAGES, *declared.shape)
            require(label.shape == want, f"{who}: its label has the shape {tuple(label.shape)}, not {want}")
            require(
                label.dtype == torch.float32 and bool(label.isfinite().all()),
                f"{who}: its label must be finite float32; got {label.dtype}",
            )


def check_pure(make: MakeAugmentation) -> None:
    """The same images and draws give the same result, and what was given is left as it was."""
    for spec, change in _made(make):
        images, draws = _images(spec), _draws(change)
        kept, drawn = images.clone(), draws.clone()
        once = change(images, draws)[0].clone()
        require(torch.equal(images, kept), f"{called(change)} writes into the images that it is given")
        require(torch.equal(draws, drawn), f"{called(change)} writes into the draws that it is given")
        torch.manual_seed(1)
        again = change(images, draws)[0]
        require(
            torch.equal(once, again),
            f"{called(change)}: with the same draws the images are others; use no other chance",
        )


def check_rows(make: MakeAugmentation) -> None:
    """What becomes of an image does not depend on those beside it: ranks share a batch out."""
    for spec, change in _made(make):
        images, draws = _images(spec), _draws(change)
        whole, labels = change(images, draws)
        for i in range(0, IMAGES, 5):
            alone, label = change(images[i : i + 1], draws[i : i + 1])
            off = (alone[0].int() - whole[i].int()).abs().max()
            require(off <= 1, f"{called(change)}: an image changes by {int(off)} with the batch that it comes in")
            if labels is not None and label is not None:
                require(torch.allclose(label[0], labels[i]), f"{called(change)}: a label changes with the batch")


def check_random(make: MakeAugmentation) -> None:
    """The draws matter: it is not always the same change. Draws of 0 and nearly 1 are as good as any."""
    for spec, change in _made(make):
        images = _images(spec)
        if spec.shape[1:] != (1, 1) and change.draws:
            one = images[:1].expand(IMAGES, *spec.shape)
            different = change(one.contiguous(), _draws(change))[0]
            require(
                bool((different != different[:1]).any()),
                f"{called(change)}: all images of a batch change alike; use the draws",
            )
        for extreme in (0.0, 1 - 2**-24):
            changed, label = change(images, torch.full((IMAGES, change.draws), extreme))
            finite = label is None or bool(label.isfinite().all())
            require(changed.shape == images.shape and finite, f"{called(change)}: fails for draws of {extreme}")


def check_neutral(make: MakeAugmentation) -> None:
    """A label of zeros means that nothing was done: such images are bit for bit what they were."""
    for spec, change in _made(make):
        if change.label is None:
            cannot("it has no label")
        images = _images(spec, 256)
        changed, label = change(images, _draws(change, 256))
        assert label is not None
        same = (label.flatten(1) == 0).all(1)
        require(
            torch.equal(changed[same], images[same]),
            f"{called(change)}: the label says that nothing was done to an image, but it is another one",
        )


def check_mirrors(make: MakeAugmentation) -> None:
    """What says that it only mirrors gives each image as it is, or mirrored: latents of these two are kept.

    Which of them the draws decide, whatever the image shows: with latents it is asked for two pixels alone.
    """
    for spec, change in _made(make):
        if not change.mirrors:
            cannot("it does more than mirror")
        images = _images(spec)
        draws, alike = _draws(change), set[tuple[bool, ...]]()
        pair = torch.arange(2, dtype=torch.uint8).expand(len(images), spec.shape[0], 1, 2)
        for shown in (images, images.roll(1, 0), 255 - images, pair):
            changed, label = change(shown, draws)
            require(
                changed.shape == shown.shape,
                f"{called(change)} says that it only mirrors, but makes {tuple(changed.shape)} of {tuple(shown.shape)}",
            )
            mirrored = (changed == shown.flip(-1)).flatten(1).all(1)
            either = (changed == shown).flatten(1).all(1) | mirrored
            require(bool(either.all()), f"{called(change)} says that it only mirrors, but there is another image")
            require(label is None, f"{called(change)} says that it only mirrors: latents that are kept have no label")
            if shown.shape[-1] > 1:  # else nobody can tell
                alike.add(tuple(mirrored.tolist()))
        require(len(alike) == 1, f"{called(change)} says that it only mirrors, but what an image shows decides whether")


def check_waits_for_nothing(make: MakeAugmentation) -> None:
    """It works without values, on the meta device: so on a GPU it never waits for one."""
    for spec, change in _made(make):
        images = torch.empty((IMAGES, *spec.shape), dtype=torch.uint8, device="meta")
        try:
            changed, _ = change(images, torch.empty((IMAGES, change.draws), device="meta"))
        except (RuntimeError, NotImplementedError) as error:
            require(False, f"{called(change)} needs values on the host, for which a GPU would be waited for: {error}")
        require(changed.shape == images.shape, f"{called(change)}: a shape that depends on values")


AUGMENTATION_CHECKS = (
    check_form,
    check_pure,
    check_rows,
    check_random,
    check_neutral,
    check_mirrors,
    check_waits_for_nothing,
)


def _made(make: MakeAugmentation) -> list[tuple[DataSpec, Augmentation]]:
    """The augmentation for each spec that it takes; a refusal is a ValueError."""
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


def _images(spec: DataSpec, count: int = IMAGES) -> Tensor:
    """Smooth pictures with every grey level, all different; uint8."""
    random = generator(0, "augmentation", prod(spec.shape))
    small = 255 * torch.rand(count, spec.shape[0], 4, 4, generator=random)
    return torch.nn.functional.interpolate(small, spec.shape[1:], mode="bilinear").round().to(torch.uint8)


def _draws(change: Augmentation, count: int = IMAGES) -> Tensor:
    return torch.rand(count, change.draws, generator=generator(0, "augmentation draws", count))
