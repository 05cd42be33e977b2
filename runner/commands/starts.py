"""From where `dmf sample` makes images: from noise, from pictures, around what a mask keeps, from encodings."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...registry.errors import UserError
from .flags import positive

if TYPE_CHECKING:
    from ...core import Codec, DataSpec, NoiseSchedule
    from ..assemble import Sampling
    from ..courses import Course
    from ..encoding import Encoded
    from ..evaluation import Trained

STRENGTH = 0.6  # without a mask; with one, 1


def add_starts(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    group = parser.add_argument_group("from pictures", "image k is made from the (k mod number)-th of what is given")
    group.add_argument(
        "--from", dest="images", metavar="IMAGE", type=Path, nargs="+", help="start from pictures under noise"
    )
    group.add_argument(
        "--strength",
        metavar="S",
        type=_strength,
        help="the noise's share at the start, above 0 (nothing changes) to 1 (all is new); default 0.6, with --mask 1",
    )
    group.add_argument(
        "--mask", metavar="IMAGE", type=Path, nargs="+", help="make anew only where the mask is white; needs --from"
    )
    group.add_argument(
        "--repeats",
        metavar="U",
        type=positive,
        help="with --mask: take each step U times (RePaint), so that new pixels fit the old ones better; default 1",
    )
    group.add_argument(
        "--noise",
        metavar="FILE",
        type=Path,
        help="start from what dmf encode wrote, with its sampler, guidance and labels where no flag gives others",
    )


@dataclass(frozen=True)
class Start:
    """What a command line said of it.

    Attributes:
        count: How many pictures or encodings were given; 0 for pure noise.
        labels: Their classes, where those are known.
        course: Makes the course, given the codec.
        encoded: The encodings, if it is those.
        strength: The noise's share to start from, if it is pictures.
    """

    count: int
    labels: list[int]
    course: Callable[[Codec], Course]
    encoded: Encoded | None = None
    strength: float | None = None

    @property
    def overrides(self) -> list[str]:
        """What the recipe must be for it."""
        return [f"sampler={json.dumps(self.encoded.made.sampler)}"] if self.encoded else []

    @property
    def weights(self) -> str | None:
        """The weights that belong to it; None for any."""
        return self.encoded.made.weights if self.encoded else None

    def check(self, trained: Trained, sampling: Sampling) -> None:
        """Accept the network and the grid.

        Raises:
            UserError: Encodings made for another level, or a strength that the schedule does not have.
        """
        if self.encoded is not None:
            self.encoded.check_level(sampling.levels[0])
            self.encoded.check_step(trained.step)
        if self.strength is not None:
            _check_strength(self.strength, trained.model.schedule, sampling)


def read_start(args: argparse.Namespace, spec: DataSpec) -> Start:
    """Read the files that were given, before any network is loaded.

    Raises:
        UserError: Flags that do not go together, or files that cannot be used.
    """
    from ..courses import from_noise

    _check(args)
    if args.noise is not None:
        start = _from_encoded(args.noise)
        _check_steps(args, start)
        return start
    return _from_images(args, spec) if args.images is not None else Start(0, [], lambda codec: from_noise)


def _check(args: argparse.Namespace) -> None:
    if args.noise is not None and args.images is not None:
        raise UserError("--noise and --from are two places to start; give one of them")
    for flag in ("mask", "strength"):
        if getattr(args, flag) is not None and args.images is None:
            raise UserError(f"--{flag} needs a picture to start from: --from IMAGE")
    if args.repeats is not None and args.mask is None:
        raise UserError("--repeats is for inpainting: give --mask too, or leave it out")


def _check_steps(args: argparse.Namespace, start: Start) -> None:
    """An adaptive sampler's grid is nothing for another: its two or so levels are stops on the way."""
    from ...registry import load

    assert start.encoded is not None
    made_by = start.encoded.made.sampler["name"]
    chosen = args.steps is not None or any(word.startswith("sampler.steps=") for word in args.overrides)
    if args.sampler not in (None, made_by) and load("sampler", made_by).evaluations is None and not chosen:
        raise UserError(f"the grid in {args.noise} is that of {made_by}, which makes its own steps; give --steps too")


def _from_images(args: argparse.Namespace, spec: DataSpec) -> Start:
    from ..courses import FromImages, Inpaint
    from ..picture_files import read_images, read_masks

    images = read_images(args.images, spec)
    known = None if args.mask is None else ~read_masks(args.mask, spec)
    strength = args.strength or (STRENGTH if known is None else 1.0)

    def course(codec: Codec) -> Course:
        x0 = codec.encode(images)
        if known is None:
            return FromImages(x0, strength)
        if codec.spec.shape[1:] != spec.shape[1:]:
            raise UserError("--mask: this run's codec does not keep pixels in their place; take a run of pixels")
        return Inpaint(x0, known, strength, args.repeats or 1)

    given = max(len(images), 0 if known is None else len(known))
    return Start(given, [spec.null_class] if spec.classes else [], course, strength=strength)


def _from_encoded(file: Path) -> Start:
    from ..courses import FromEncoded
    from ..encoding import load_encoded

    encoded = load_encoded(file)

    def course(codec: Codec) -> Course:
        encoded.check_shape(codec.spec.shape)
        return FromEncoded(encoded.x)

    return Start(len(encoded.x), encoded.labels, course, encoded)


def _check_strength(strength: float, schedule: NoiseSchedule, sampling: Sampling) -> None:
    import torch

    from ...core import start_from

    nothing = torch.zeros(1)
    try:
        start_from(nothing, sampling.levels, strength, nothing, schedule)
    except ValueError as error:
        raise UserError(f"--strength: {error}") from error


def _strength(text: str) -> float:
    """A strength, for argparse."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1")
    return value
