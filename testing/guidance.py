"""What any guidance must hold to."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core import Guidance, Level, generator
from .claims import called, hold, require
from .schedules import unlike_schedules

IMAGES = 6
NUMBERS = torch.tensor([4, 0, 7, 1, 2, 9])  # of the images of a batch, not in a row
WITHIN = 0.9  # what lies within the range of clean data is not clipped by any threshold


def check_guidance(guidance: Guidance) -> None:
    """Hold a guidance to the interface: every check below.

    Raises:
        AssertionError: With a sentence, at the first that fails.
    """
    hold(GUIDANCE_CHECKS, guidance)


def check_agreeing(guidance: Guidance) -> None:
    """Where conditional and reference are one image, within the range of clean data, that is the guided one."""
    given, (x, _) = guidance.for_images(NUMBERS), _pair()
    for where, level in _levels():
        off = float((given.combine(x, x.clone(), level) - x).abs().max())
        require(off < 1e-9, f"{called(guidance)} {where}: reference and conditional agree, the result is {off} away")


def check_acts(guidance: Guidance) -> None:
    """Where it says that it acts, the reference counts, and where it does not, it does not ask for one."""
    given, (x, reference) = guidance.for_images(NUMBERS), _pair()
    acting = 0
    for where, level in _levels():
        acts = given.acts(level)
        require(isinstance(acts, bool), f"{called(guidance)}.acts is to be true or false {where}; got {acts!r}")
        acting += acts
        if acts:
            changed = not torch.equal(given.combine(x, reference, level), given.combine(x, x, level))
            require(changed, f"{called(guidance)} says that it acts {where}, where the reference changes nothing")
    require(
        bool(acting) == given.guides,
        f"{called(guidance)}.guides is {given.guides}, and it acts at {acting} of {len(_levels())} levels",
    )


def check_images(guidance: Guidance) -> None:
    """Each image is guided by itself: by its own level, and not by its neighbours."""
    x, reference = _pair()
    levels = _levels()
    whole = [guidance.for_images(NUMBERS).combine(x, reference, level) for _, level in levels]
    for k in range(IMAGES):
        one = guidance.for_images(NUMBERS[k : k + 1])
        alone = [one.combine(x[k : k + 1], reference[k : k + 1], _only(level, k)) for _, level in levels]
        for (where, _), got, want in zip(levels, alone, whole, strict=True):
            off = float((got - want[k : k + 1]).abs().max())
            require(off < 1e-9, f"{called(guidance)} {where}: image {k} alone is {off} away from itself in its batch")


def check_dtypes(guidance: Guidance) -> None:
    """The dtype of what is given stays, with a level for all and with one an image; nothing is written into."""
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        x, reference = (value.to(dtype) for value in _pair())
        kept = x.clone(), reference.clone()
        for where, level in _levels():
            got = guidance.for_images(NUMBERS).combine(x, reference, level)
            require(got.dtype == dtype, f"{called(guidance)} {where} turns {dtype} into {got.dtype}")
            require(got.shape == x.shape, f"{called(guidance)} {where} turns {tuple(x.shape)} into {tuple(got.shape)}")
            require(got.isfinite().all(), f"{called(guidance)} {where} in {dtype}: not finite")
            same = torch.equal(x, kept[0]) and torch.equal(reference, kept[1])
            require(same, f"{called(guidance)} writes into the images that it is given")


GUIDANCE_CHECKS = (check_agreeing, check_acts, check_images, check_dtypes)


def _pair() -> tuple[Tensor, Tensor]:
    """Conditional and reference x0_hat, (B, 2, 3, 3) float64."""
    random = generator(0, "guidance", 0)
    drawn = torch.rand(2, IMAGES, 2, 3, 3, generator=random, dtype=torch.float64)
    conditional, reference = WITHIN * (2 * drawn - 1)
    return conditional, reference


def _levels() -> list[tuple[str, Level]]:
    """Levels of all schedules, one at a time and one an image."""
    found = []
    for name, schedule in unlike_schedules().items():
        times = schedule.t_at(torch.linspace(-8, 8, IMAGES, dtype=torch.float64))
        found += [(f"at t = {float(t):.3g} of schedule {name}", schedule.at(t)) for t in times]
        found.append((f"on schedule {name}, a level an image", schedule.at(times).per_image(4)))
    return found


def _only(level: Level, k: int) -> Level:
    """The level of image k."""
    if level.t.ndim == 0:
        return level
    return Level(*(field[k : k + 1] for field in (level.t, level.alpha, level.sigma)))
