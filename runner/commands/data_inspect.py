"""`dmf data inspect`: what is in a folder, a zip or a named data set."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files.places import home
from ...registry.errors import UserError
from .flags import check_writable, option, positive

if TYPE_CHECKING:
    from torch import Tensor

    from ..collections.inspect import Findings

HELP = "look through a folder, a zip or a named data set: sizes, labels, means, duplicates, what is bad; with a sheet"
SIZE = 64  # in pixels


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "words",
        nargs="+",
        metavar="WHAT",
        help="a folder, a zip, or the name of a data set with its options: cifar10, mnist split=test; a folder with "
        "the name of a data set is written ./digits",
    )
    parser.add_argument("--labels", metavar="HOW", help="of a folder or zip: as of image_folder (default: auto)")
    parser.add_argument(
        "--size", type=positive, metavar="N", help=f"of a folder or zip: scale and cut to this (default: {SIZE})"
    )
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="the picture of samples (default: inspect-WHAT.png)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure, and every name")
    parser.add_argument("--workers", type=positive, metavar="N", help="pictures at a time (default: one a core)")


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ...files.sheets import save_png
    from ...files.writing import write_json
    from ..collections.inspect_report import as_json, lines
    from ..console import log, start_console
    from ..outputs import Outputs

    start_console(0)
    what, options = _wanted(args.words)
    sheet_file = args.sheet or Path(f"inspect-{home(what).absolute().name}.png")
    check_writable(sheet_file, (".png",))
    check_writable(args.json)
    found, sheet = _looked(what, options, args)
    for text in lines(found):
        log.info("%s", text)
    for text in _as_a_set(what, options, found, args):
        log.info("%s", text)
    with Outputs() as files:
        if sheet is not None and files.write(sheet_file, partial(save_png, sheet, sheet_file)):
            log.info("samples: %s", sheet_file)
        if args.json is not None:
            files.write(args.json, lambda: write_json(args.json, as_json(found)))
    return 0


def _wanted(words: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The place or the name, and the options given."""
    places = [word for word in words if "=" not in word or home(word).exists()]
    if len(places) != 1:
        raise UserError(
            f"got {len(places)} things to look through{': ' if places else ''}{' '.join(places)}; expected a folder, a "
            "zip, or the name of a data set with option=value words"
        )
    return places[0], dict(option(word) for word in words if word != places[0])


def _is_name(what: str) -> bool:
    from ...registry.discover import parts

    return any(part.kind == "dataset" and part.name == what for part in parts())


def _looked(what: str, options: dict[str, Any], args: argparse.Namespace) -> tuple[Findings, Tensor | None]:
    from ...files.threads import cores
    from ...registry import build
    from ...registry.discover import find
    from ..collections.inspect import inspect_dataset, inspect_files

    workers = args.workers or cores()
    path = Path(what)
    if _is_name(what):
        _check_of_files(what, args)
        told = " ".join([what, *(f"{key}={value}" for key, value in options.items())])
        return inspect_dataset(build("dataset", what, **options), f"data set {told}", workers)
    if not home(path).exists():
        try:
            find("dataset", what)
        except UserError as error:
            named = f"; {error}" if "/" not in what and path.suffix != ".zip" else ""  # says which there are
            raise UserError(
                f"{what} is not there; give a folder, a zip, or the name of a data set (dmf plugins){named}"
            ) from None
    if options:
        raise UserError(f"{what} is no data set by name, and takes no options; got {', '.join(options)}")
    return inspect_files(path, "auto" if args.labels is None else args.labels, args.size or SIZE, workers)


def _check_of_files(what: str, args: argparse.Namespace) -> None:
    """Refuse what is said of files, where a data set is looked through by its name.

    Raises:
        UserError: Something is.
    """
    for name in ("labels", "size"):
        value = getattr(args, name)
        if value is not None:
            raise UserError(
                f"--{name} is of a folder or zip, and {what} is the name of a data set: write {name}={value} if it "
                f"takes that (dmf plugins show dataset:{what}), or ./{what} for the folder"
            )


def _as_a_set(what: str, options: dict[str, Any], found: Findings, args: argparse.Namespace) -> list[str]:
    """What a recipe says to train on it."""
    from ...registry.yaml12 import written

    if not found.usable:
        return ["there is nothing to train on"]
    if _is_name(what):
        return ["", "in a recipe", f"  dataset: {written({'name': what, **options})}"]
    value: dict[str, Any] = {"name": "image_folder", "root": what, "size": _side(found, args.size or SIZE)}
    value |= {"channels": 1} if found.all_grey else {}
    value |= {"labels": args.labels} if args.labels not in (None, "auto") else {}
    value |= {"on_error": "skip"} if found.unusable else {}
    skip = " (it stops at what cannot be used, unless on_error is skip; then it leaves that out)"
    return ["", f"in a recipe{skip if found.unusable else ''}", f"  dataset: {written(value)}"]


def _side(found: Findings, size: int) -> int:
    """A side for training: as was asked for, or that of the pictures, if most of them are smaller."""
    import numpy as np

    return min(size, int(np.median(found.sides().min(1))))
