"""Flags that several commands share."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ...registry.errors import UserError
from ..outputs import why_not
from ..sampler_words import network_value

CHECKPOINT = "a run's folder, or its name; RUN@400 is its checkpoint of step 400, RUN@best the best, RUN the newest"
OF_A_HOOK = ("mlflow.json",)  # in a run's folder, beside what `RunFolder` names
NUMBERS = re.compile(r"[^,{}\[\]]+(,[^,{}\[\]]+)+")  # several, separated by commas


def add_commands(parser: argparse.ArgumentParser, commands: Mapping[str, ModuleType], dest: str) -> None:
    """Commands below a parser, by name. Each is a module with HELP, ``arguments``, and ``execute`` or more below it."""
    below = parser.add_subparsers(dest=dest, metavar=dest.upper(), required=True)
    for name, command in commands.items():
        sub = below.add_parser(name, help=command.HELP, description=command.HELP)
        command.arguments(sub)
        if hasattr(command, "execute"):
            sub.set_defaults(execute=command.execute)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """The ``key=value`` words."""
    what = "recipe values to change, for example train.steps=500; anywhere on the line"
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help=what)


def add_runs(parser: argparse.ArgumentParser) -> None:
    """The folder of runs."""
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="folder of runs (default: runs)"
    )


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """A run, or one of its checkpoints."""
    parser.add_argument("run", metavar="RUN", help=CHECKPOINT)


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """How and where images are made; those of `SAMPLER_KEYS` are recipe values."""
    parser.add_argument("--seed", metavar="N", help="seed of the noise: image k of a seed is always the same")
    add_walk(parser)


def add_walk(parser: argparse.ArgumentParser) -> None:
    """How and where images are made, or unmade, but for the noise."""
    parser.add_argument("--sampler", metavar="NAME", help="another sampler")
    parser.add_argument("--steps", metavar="N", help="sampling steps")
    parser.add_argument(
        "--guidance",
        metavar="SCALE",
        type=_guidance,
        help="guidance scale, 1 is none; several, as 1,2,4: image k has the (k mod number)-th of them; or a guidance "
        "as in the recipe: '{name: interval, sigma_max: 5, of: 3}'",
    )
    parser.add_argument(
        "--away-from",
        metavar="RUN",
        type=network_value,
        help="guide away from another run's network, RUN, RUN@STEP or RUN@best; @STEP or @best is this run earlier; "
        "null is this network without labels; or a mapping as in the recipe",
    )
    add_place(parser)


def add_place(parser: argparse.ArgumentParser) -> None:
    """Which weights are used, and where."""
    parser.add_argument("--batch-size", metavar="N", help="images at a time")
    add_weights(parser)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], help="where to compute")


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Which weights are used."""
    parser.add_argument(
        "--weights",
        metavar="NAME",
        help="ema, the run's first average (default); raw, the weights themselves; another average's label, as "
        "power-0.05; or posthoc-LENGTH, which dmf ema makes",
    )


def _guidance(text: str) -> str:
    """The recipe's value for what was written: a list of scales is cfg with them."""
    return f"{{name: cfg, scale: [{text}]}}" if NUMBERS.fullmatch(text) else text


def overrides_of(args: argparse.Namespace, flags: Mapping[str, str]) -> list[str]:
    """The flags that are recipe keys, as overrides: they go through the recipe's own checks."""
    given = {key: getattr(args, flag) for flag, key in flags.items()}
    return [f"{key}={value}" for key, value in given.items() if value is not None]


def check_writable(file: Path | None, endings: tuple[str, ...] = ()) -> None:
    """Refuse a file that cannot be written, before the long work.

    Raises:
        UserError: Its folder is not there or takes no files, it is a folder itself, its name ends in something else, or
            it is what a run knows of itself.
    """
    if file is None:
        return
    _refuse_own(file)
    if file.is_dir() or not file.absolute().parent.is_dir():
        raise UserError(f"{file} cannot be written: its folder does not exist, or it is a folder itself")
    if endings and file.suffix.lower() not in endings:
        raise UserError(f"{file}: what is written is {endings[0]}; name it {file.with_suffix(endings[0]).name}")
    _refuse(f"{file} cannot be written", file if file.is_file() else file.absolute().parent)


def _refuse_own(file: Path) -> None:
    """Refuse a file of a run's own, which would be lost."""
    from ..folder import RunFolder

    place = file.resolve()
    run = RunFolder(place.parent)
    if not run.recipe.is_file() or not (run.spec.exists() or run.checkpoints.exists()):
        return  # none; or what lies there is a user's recipe of that name
    own = [path for path in vars(run).values() if isinstance(path, Path)]
    if place in own or file.name in OF_A_HOOK or file.name.startswith("recipe."):
        raise UserError(f"{file} is a file of the run's own, which would be lost: give another name")


def check_apart(places: Mapping[str, Path | None], closed: Mapping[str, Path | None]) -> None:
    """Refuse two outputs in one place, of which the second would be written over the first.

    Args:
        places: What each flag names; None is not given.
        closed: Likewise, where nothing else may be written below.

    Raises:
        UserError: Naming both flags.
    """
    given = {flag: place.resolve() for flag, place in {**places, **closed}.items() if place is not None}
    for (one, here), (other, there) in itertools.permutations(given.items(), 2):
        if here == there:
            raise UserError(f"{one} and {other} name one place, {here}: give each its own")
        if other in closed and there in here.parents:
            raise UserError(f"{one} {here} lies in the folder of {other}: give each its own place")


def check_folder(place: Path | None, flag: str) -> None:
    """Refuse a folder, which may be made first, in which nothing can be written, before the long work.

    Raises:
        UserError: It is a file, cannot be made, or takes no files.
    """
    if place is None:
        return
    if place.exists() and not place.is_dir():
        raise UserError(f"{flag}: {place} is a file; give a folder")
    _refuse(f"{flag}: nothing can be written in {place}", place)


def _refuse(what: str, place: Path) -> None:
    why = why_not(place)
    if why is not None:
        raise UserError(f"{what}: {why}; name another place")


def option(word: str) -> tuple[str, Any]:
    """An option and its value, from ``name=value``; the value is YAML.

    Raises:
        UserError: It is not.
    """
    from ...registry.yaml12 import parse_value

    key, _, value = word.partition("=")
    try:
        return key, parse_value(value)
    except UserError as error:
        raise UserError(f"{word}: {str(error).partition(': ')[2]}") from error


def shape(text: str) -> tuple[int, ...]:
    """(C, H, W) from numbers with commas between, for argparse."""
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: whole numbers with commas between, as 3,32,32") from None


def positive(text: str) -> int:
    """A number of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def natural(text: str) -> int:
    """A number of at least 0, for argparse."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is not at least 0")
    return value
