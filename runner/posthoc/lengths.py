"""Making averages of other lengths, and saying which lengths there can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ...core.averages import LONGEST, Solution, reconstruct
from ...registry import UserError
from ..average_rules import POSTHOC
from ..folder import RunFolder
from ..tables import table
from ..training.snapshots import saver_of
from ..weights import KEPT_GROUP
from ..world import World
from .tracks import Tracks, combined

MOST_RESIDUAL = 0.1
"""A profile that is farther from the wanted one, in shares of its norm, is another average."""
TRIED = [0.005 * i for i in range(1, round(LONGEST / 0.005))]  # lengths, for the range that is told


@dataclass(frozen=True)
class Made:
    """An average of another length.

    Attributes:
        name: What ``--weights`` calls it.
        length: Its relative width.
        solution: How it is put together.
    """

    name: str
    length: float
    solution: Solution


def name_of(length: float) -> str:
    """``posthoc-0.05``."""
    return f"{POSTHOC}{length:.15g}"


def solve(tracks: Tracks, lengths: Sequence[float]) -> list[Made]:
    """How each average is put together.

    Raises:
        UserError: A length that the snapshots cannot give; the message says which they can.
    """
    try:
        made = [Made(name_of(length), length, _solved(tracks, length)) for length in lengths]
    except ValueError as error:
        raise UserError(f"--length: {error}") from None
    bad = [one for one in made if one.solution.residual > MOST_RESIDUAL]
    if bad:
        listed = ", ".join(f"{one.length:g} (off by {one.solution.residual:.0%})" for one in bad)
        raise UserError(
            f"no average of length {listed} at step {tracks.step} from {tracks.about()}; they give {possible(tracks)}. "
            "More snapshots (snapshots of the power averages), or a second length, give more"
        )
    return made


def possible(tracks: Tracks) -> str:
    """The lengths that there can be, in words."""
    fit = [length for length in TRIED if _solved(tracks, length).residual <= MOST_RESIDUAL]
    own = sorted({one.length for one in tracks.snapshots if one.step == tracks.step})
    ends = sorted([*fit[:1], *fit[-1:], *own[:1], *own[-1:]])
    return f"lengths from {ends[0]:g} to {ends[-1]:g}"


def write(folder: RunFolder, tracks: Tracks, made: Sequence[Made], world: World) -> None:
    """Write averages into the run's folder, each whole or not at all; `find_weights` finds them there.

    Args:
        folder: The run's.
        tracks: What they are made of.
        made: How.
        world: One process.
    """
    shares = torch.stack([one.solution.shares for one in made], dim=1)
    for one, tensors in zip(made, combined(tracks.snapshots, shares), strict=True):
        home = folder.averages / one.name
        home.mkdir(exist_ok=True)
        facts = {"length": one.length, "residual": one.solution.residual, "noise": one.solution.noise}
        saver_of(home, world).save(tracks.step, {KEPT_GROUP: tensors}, facts)


def shown(made: Sequence[Made]) -> str:
    """A line an average: how far its profile is off, and how rounding errors grow."""
    rows = [["weights", "profile off by", "rounding times"]]
    rows += [[one.name, f"{one.solution.residual:.2%}", f"{one.solution.noise:.2g}"] for one in made]
    return "\n".join(table(rows))


def _solved(tracks: Tracks, length: float) -> Solution:
    return reconstruct(tracks.profiles, tracks.wanted(length))
