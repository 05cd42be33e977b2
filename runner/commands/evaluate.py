"""`dmf evaluate`: score a trained run, or one set of images beside another."""

from __future__ import annotations

import argparse
from itertools import filterfalse
from pathlib import Path

from ...registry.errors import UserError
from ..launching import add_launch, launch, plan_for
from ..sampler_words import SAMPLER_KEYS
from .flags import (
    CHECKPOINT,
    add_runs,
    add_sampling,
    check_apart,
    check_folder,
    check_writable,
    overrides_of,
    positive,
)

HELP = "score a trained run, or one set of images beside another"
SETS = "a folder or a zip of pictures, as they are; FILE.npz; a data set, cifar10 or {name: cifar10, split: test}"
DEFAULT_METRICS = "fid,kid"  # of sets; of a run the recipe's
RECIPE_KEYS = {
    **SAMPLER_KEYS,
    "images": "evaluate.images",
    "seed": "evaluate.seed",
    "batch_size": "evaluate.batch_size",
    "weights": "evaluate.weights",
}
RUNS = Path("runs")
OF_RUNS = (
    *("sampler", "steps", "guidance", "away_from", "weights", "save_images", "repeats", "sweep", "write_best"),
    *("no_track", "runs"),
)
OF_ONE_SETTING = ("pictures", "write_reference")  # besides --save-images
OF_FILES = ("labels", "on_error")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="RUN key=value",
        help=f"{CHECKPOINT}; and recipe values to change. None of it with --generated",
    )
    parser.add_argument("--generated", metavar="SET", help=f"score these images, without a model: {SETS}")
    parser.add_argument(
        "--reference",
        metavar="SET",
        help="compare with these images (default: the run's data), or with the statistics mu and sigma in an .npz",
    )
    parser.add_argument("--images", metavar="N", help="images to make and score; of --generated, so many of them")
    parser.add_argument(
        "--metrics",
        metavar="LIST",
        help=f"names with commas between, or as in the recipe: '[{{name: frechet, features: digits}}]' (default: the "
        f"run's; with --generated {DEFAULT_METRICS})",
    )
    add_sampling(parser)
    parser.add_argument("--repeats", metavar="K", type=positive, help="with K seeds: mean, deviation, minimum")
    parser.add_argument("--no-held-out", action="store_true", help="do not score held-out real images for comparison")
    _add_outputs(parser)
    _add_sweep(parser)
    parser.add_argument(
        "--labels", metavar="HOW", help="of pictures: auto (default), folders, none, or a JSON file; as of image_folder"
    )
    parser.add_argument(
        "--on-error",
        choices=("raise", "skip"),
        help="pictures that cannot be used: raise (default) names them and ends the command, skip leaves them out",
    )
    add_runs(parser)
    parser.set_defaults(runs=None)  # so that it is known whether it was given
    add_launch(parser)


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the report here")
    parser.add_argument(
        "--pictures",
        metavar="DIR",
        type=Path,
        help="write pictures here (default: the run's folder; of sets, beside --json)",
    )
    parser.add_argument(
        "--save-images",
        metavar="DIR|NPZ",
        type=Path,
        help="keep the images: PNG files in a new folder, or arr_0, uint8 (N, H, W, C), in FILE.npz",
    )
    parser.add_argument(
        "--write-reference", metavar="NPZ", type=Path, help="write mean and covariance of the reference's features"
    )
    parser.add_argument("--no-track", action="store_true", default=None, help="tell the run's trackers nothing")


def _add_sweep(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sweep",
        nargs="+",
        metavar="key=a,b",
        help="score each combination of the values: guidance=1,1.5,2 steps=10,20 sampler=ddim,heun",
    )
    parser.add_argument(
        "--write-best", metavar="METRIC", help="make the sweep's best setting by this value the run's sampler"
    )


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    _sort_words(args)
    _check(args)
    check_writable(args.json)
    check_writable(args.write_reference, (".npz",))
    check_folder(args.pictures, "--pictures")
    places = {"--json": args.json, "--write-reference": args.write_reference, "--pictures": args.pictures}
    check_apart(places, {"--save-images": args.save_images})
    args.runs = args.runs or RUNS
    device, name = args.device or "auto", "evaluate"
    if args.run is not None:  # before any process is started
        from ..runs import find_checkpoint, recipe_of

        folder, _ = find_checkpoint(args.run, args.runs)
        device, name = recipe_of(folder, recipe_overrides(args)).device, f"evaluate-{folder.path.name}"
    plan = plan_for(args, device, name)
    if plan is not None:
        return launch(plan, args.argv)
    if args.run is None:
        from .evaluate_sets import score_sets

        return score_sets(args)
    from .evaluate_run import score_run

    return score_run(args)


def recipe_overrides(args: argparse.Namespace) -> list[str]:
    """What the command line says of the recipe."""
    given = [*overrides_of(args, RECIPE_KEYS), *args.overrides]
    if args.metrics is not None:
        given.append(f"evaluate.metrics={metrics_list(args.metrics)}")
    if args.no_held_out:
        given.append("evaluate.held_out=false")
    return given


def metrics_list(text: str) -> str:
    """A list in YAML, of names with commas between or of such a list."""
    return text if text.lstrip().startswith("[") else f"[{text}]"


def _sort_words(args: argparse.Namespace) -> None:
    """The run and the recipe's values; a run that stands behind --sweep is none of its words."""
    from ..runs import names_run

    def says_something(word: str) -> bool:
        return "=" in word and not names_run(word, args.runs or RUNS)

    words = [*args.words, *filterfalse(says_something, args.sweep or ())]
    args.sweep = [*filter(says_something, args.sweep or ())] or None
    args.overrides = [*filter(says_something, words)]
    names = [*filterfalse(says_something, words)]
    if len(names) > 1:
        raise UserError(f"one run is scored at a time, and these are {len(names)}: {', '.join(names)}")
    args.run = names[0] if names else None


def _check(args: argparse.Namespace) -> None:
    """Accept flags that go together."""
    if args.run is None and args.generated is None:
        raise UserError("nothing to score: give a RUN, or images that are there: --generated SET --reference SET")
    if args.run is not None and args.generated is not None:
        raise UserError(f"{args.run} and --generated are two things to score; give one of them")
    if args.generated is not None:
        _check_sets(args)
    elif args.reference is None and (useless := _given(args, OF_FILES)):
        raise UserError(f"{useless}: that is of --reference or --generated, and neither is there; leave it out")
    if args.write_best is not None and args.sweep is None:
        raise UserError("--write-best takes the best of a sweep: give --sweep too")
    if args.save_images is not None and (args.sweep or (args.repeats or 1) > 1):
        raise UserError("--save-images keeps the images of one setting and one seed; leave out --sweep and --repeats")
    if args.sweep is not None and (useless := _given(args, OF_ONE_SETTING)):
        raise UserError(f"{useless}: that is of one setting; leave it out with --sweep, or leave out --sweep")


def _check_sets(args: argparse.Namespace) -> None:
    useless = ", ".join(filter(None, [_given(args, OF_RUNS), *args.overrides]))
    if useless:
        raise UserError(f"{useless}: that is of a run that makes images; leave it out with --generated")
    if args.reference is None and args.write_reference is not None:
        raise UserError("--write-reference needs a reference: give --reference SET")
    if args.seed is not None and args.images is None:
        raise UserError("--seed chooses among the images of --generated, and all are scored: give --images N too")


def _given(args: argparse.Namespace, names: tuple[str, ...]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names if getattr(args, name) is not None)
