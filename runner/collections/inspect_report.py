"""What `dmf data inspect` found, for people and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ...files.listing import ENDINGS
from ...files.words import counted, printable, told_size
from ..tables import table
from .bars import bars
from .inspect import FLAT, Findings
from .look import Look

SIDES = (16, 32, 64, 128, 256, 512, 1024, 2048)
EXAMPLES = 5
CHANNELS = {1: ("grey",), 3: ("red", "green", "blue")}


def lines(found: Findings) -> Iterator[str]:
    """All of it as text."""
    usable = found.usable
    classes = counted(len(found.classes), "class", "classes") if found.classes else "no labels"
    files = f", {told_size(found.bytes)} of files" if found.bytes else ""
    yield f"{printable(found.what)}: {len(usable):,} {'picture' if len(usable) == 1 else 'pictures'}, {classes}{files}"
    if usable:
        yield from _sizes(found)
        if found.classes:
            yield from ("", "pictures of each class", *bars(found.labels()))
        yield from _pixels(found)
    yield from _findings(found)


def _sizes(found: Findings) -> Iterator[str]:
    sides = found.sides()
    yield from ("", "sizes in pixels")
    if (sides == sides[0]).all():
        yield f"  all {sides[0, 0]} x {sides[0, 1]} (width x height)"
    else:
        yield from _spread(sides)
    kinds = {"formats": [one.format for one in found.usable], "modes": [one.mode for one in found.usable]}
    told = [f"{what.ljust(7)}  {', '.join(_counted(some))}" for what, some in kinds.items() if any(some)]
    yield from ["", *told] if told else []


def _spread(sides: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> Iterator[str]:
    shorter = sides.min(1)
    rows = {"width": sides[:, 0], "height": sides[:, 1], "shorter side": shorter}
    cells = [[name, *(f"{int(v):,}" for v in (of.min(), np.median(of), of.max()))] for name, of in rows.items()]
    yield from _table([["", "least", "median", "most"], *cells])
    yield from ("", "pictures by their shorter side", *bars(_histogram(shorter)))


def _histogram(shorter: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, int]:
    """Pictures by shorter side, between those of `SIDES` that are needed."""
    edges = [0, *SIDES, 2**62]
    names = [f"below {SIDES[0]}", *(f"{a} to {b - 1}" for a, b in pairwise(SIDES))]
    counts, _ = np.histogram(shorter, edges)
    rows = dict(zip([*names, f"{SIDES[-1]} and more"], counts.tolist(), strict=True))
    used = [k for k, count in enumerate(rows.values()) if count]
    return dict(list(rows.items())[used[0] : used[-1] + 1])


def _counted(kinds: Sequence[str]) -> list[str]:
    return [f"{kind} {count:,}" for kind, count in Counter(kind for kind in kinds if kind).most_common()]


def _pixels(found: Findings) -> Iterator[str]:
    of = f"scaled and cut to {found.size}x{found.size}" if found.size else "as they are"
    yield from ("", f"pixels, 0 to 255, of the pictures {of}")
    moments = found.moments()
    names = CHANNELS.get(len(moments), tuple(f"channel {k}" for k in range(len(moments))))
    cells = [[name, f"{mean:.2f}", f"{deviation:.2f}"] for name, (mean, deviation) in zip(names, moments, strict=True)]
    scaled = [[f"{mean / 127.5 - 1:.3f}", f"{deviation / 127.5:.3f}"] for mean, deviation in moments]
    head = ["", "mean", "deviation", "mean of -1 to 1", "deviation"]
    yield from _table([head, *([*a, *b] for a, b in zip(cells, scaled, strict=True))])


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    return (f"  {line}" for line in table(rows, left=1))


# what a person should look at


def _findings(found: Findings) -> Iterator[str]:
    yield ""
    groups = found.duplicates()
    more = sum(len(group) - 1 for group in groups)
    if more:
        yield from _examples(f"{counted(more, 'exact duplicate')}", [_same(group) for group in groups])
    mixed = [group for group in groups if len({look.label for look in group}) > 1]
    if mixed:
        yield from _examples(
            f"{counted(len(mixed), 'picture is', 'pictures are')} in more than one class", [_same(g) for g in mixed]
        )
    flat = found.flat()
    if flat:
        what = counted(len(flat), "picture is", "pictures are")
        yield from _examples(f"{what} nearly of one colour (deviation below {FLAT:g})", [_name(o) for o in flat])
    moving = [look for look in found.usable if look.frames > 1]
    if moving:
        what = counted(len(moving), "picture has", "pictures have")
        yield from _examples(f"{what} several frames, of which the first is taken", [_name(look) for look in moving])
    lying = [look for look in found.usable if not _ending_fits(look)]
    if lying:
        what = counted(len(lying), "file is", "files are")
        yield from _examples(
            f"{what} of another format than the ending says; that does no harm",
            [f"{_name(look)} is {look.format}" for look in lying],
        )
    bad = found.unusable
    if bad:
        what = counted(len(bad), "file", "files")
        yield from _examples(f"{what} cannot be used", [f"{_name(look)} {look.trouble}" for look in bad])
    if found.others:
        rest = ", ".join(f"{count} {ending or 'without an ending'}" for ending, count in found.others.most_common(5))
        yield f"{counted(found.others.total(), 'other file')}, left out: {rest}"
    if not (groups or flat or bad):
        yield "no duplicates, no picture of one colour, nothing unreadable"
    elif found.bytes and (groups or bad):
        yield "dmf data prepare makes a set without duplicates and without what cannot be used"


def _examples(what: str, some: Sequence[str]) -> Iterator[str]:
    yield what
    more = len(some) > EXAMPLES + 1  # one more takes no more room than to say so
    yield from (f"  {one}" for one in (some[:EXAMPLES] if more else some))
    if more:
        yield f"  and {len(some) - EXAMPLES:,} more (--json FILE has them all)"


def _same(group: Sequence[Look]) -> str:
    return " = ".join(_name(look) + (f" ({look.label})" if look.label else "") for look in group[:4])


def _name(look: Look) -> str:
    return printable(look.name)


def _ending_fits(look: Look) -> bool:
    ending = look.name.rpartition(".")[2].lower()
    return not look.format or ending in ENDINGS[look.format]


# as JSON


def as_json(found: Findings) -> dict[str, Any]:
    """All of it in values of JSON."""
    usable = found.usable
    return {
        "what": found.what,
        "pictures": len(usable),
        "classes": found.labels(),
        "bytes": found.bytes,
        "formats": _counts(look.format for look in usable),
        "modes": _counts(look.mode for look in usable),
        **_json_of_pixels(found),
        "duplicates": [[look.name for look in group] for group in found.duplicates()],
        "several_frames": [look.name for look in usable if look.frames > 1],
        "one_colour": [look.name for look in found.flat()],
        "unusable": {look.name: look.trouble for look in found.unusable},
        "other_files": dict(found.others),
    }


def _counts(kinds: Iterator[str]) -> dict[str, int]:
    return dict(Counter(kind for kind in kinds if kind).most_common())


def _json_of_pixels(found: Findings) -> Mapping[str, Any]:
    if not found.usable:
        return {}
    sides, moments = found.sides(), found.moments()
    spread = {
        name: {"least": int(of.min()), "median": float(np.median(of)), "most": int(of.max())}
        for name, of in (("width", sides[:, 0]), ("height", sides[:, 1]), ("shorter_side", sides.min(1)))
    }
    return {
        "sides": spread,
        "scaled_to": found.size or None,
        "mean": [mean for mean, _ in moments],
        "deviation": [deviation for _, deviation in moments],
    }
