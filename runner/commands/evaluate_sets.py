"""`dmf evaluate --generated`: images that are there, beside others."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ...core import Dataset, Statistics
from ...files.writing import write_json
from ...registry import PartRef, UserError, build, load
from ...registry.options import fill, name_and_options, part_problems
from ...registry.recipe_types import Evaluate
from ...registry.yaml12 import parse_value
from ..console import log
from ..evaluation import Named, Results, Scoring, protocol, table
from ..evaluation.checks import check_needs
from ..evaluation.first_images import FirstImages
from ..evaluation.reference_file import check_written, write_reference
from ..evaluation.report import write_pictures
from ..evaluation.streams import Real
from ..feed import source_of
from ..image_sets.named import called, check_same, check_words, open_reference, open_set
from ..outputs import Outputs
from ..world import World
from .evaluate import DEFAULT_METRICS, metrics_list
from .on_ranks import on_ranks


def score_sets(args: argparse.Namespace) -> int:
    """Run the command; what costs nothing to look at is looked at first."""
    numbers = _Numbers(*(_whole(args, name) for name in ("images", "seed", "batch_size")))
    for flag in ("generated", "reference"):
        if getattr(args, flag) is not None:
            check_words(getattr(args, flag), f"--{flag}")
    return on_ranks(args.device or "auto", partial(_score, args, numbers))


class _Numbers(NamedTuple):
    """What flags give; None where they are not there."""

    images: int | None
    seed: int | None
    batch_size: int | None


def _score(args: argparse.Namespace, numbers: _Numbers, world: World) -> None:
    refs = _refs(args.metrics or DEFAULT_METRICS, reference=args.reference is not None)
    how = {"labels": args.labels, "on_error": args.on_error}
    generated = open_set(args.generated, "--generated", world, **how)
    against = None if args.reference is None else open_reference(args.reference, "--reference", world, **how)
    all_of_it = Real(generated, source_of(generated, world.device), called(args.generated), numbers.seed or 0)
    made, reference = _chosen(all_of_it, numbers.images), _stream(against, args.reference, world)
    if isinstance(reference, Real):
        check_same(made.spec, reference.spec, (made.name, reference.name))
    # only now, as this may download weights
    metrics = world.first_alone(lambda: [_metric(ref) for ref in refs])
    if args.write_reference is not None:
        check_written(metrics)
    scoring = Scoring(
        metrics,
        world,
        numbers.batch_size or Evaluate().batch_size,
        reference=reference,
        held_out=None if args.no_held_out else _held_out(against, world),
    )
    scoring.check(made.spec, made.name, len(made), model=False)
    first = FirstImages(made.spec, world)
    scored = scoring.score(made, on_shown=first.take)
    sheet = first.sheet() if scored.complete else None
    with Outputs() as files:
        if world.first:
            if scored.results:
                log.info("%s", table(scored.results))
            _write(args, scored.results, scored.pictures | ({} if sheet is None else {"grid": sheet}), files)
            place = args.write_reference
            if place is not None and files.write(place, lambda: write_reference(place, scoring)):
                log.info("statistics of the reference: %s", place)
        if scored.errors:
            raise UserError(f"--metrics: {'; '.join(scored.errors)}")


def _write(args: argparse.Namespace, results: Results, pictures: dict[str, Tensor], files: Outputs) -> None:
    place: tuple[Path, str] | None = None
    if args.pictures is not None:
        place = args.pictures, ""
    elif args.json is not None:
        place = args.json.parent, f"{args.json.stem}-"
    if results and args.json is not None and files.write(args.json, lambda: write_json(args.json, results)):
        log.info("values and protocols: %s", args.json)
    if place is not None and (written := write_pictures(files, pictures, *place)):
        log.info("pictures: %s", ", ".join(map(str, written)))


def _refs(text: str, *, reference: bool) -> list[Any]:
    """The metrics that a text names, each looked at without building it."""
    try:
        refs: Any = parse_value(metrics_list(text))
    except UserError as error:
        raise UserError(f"--metrics: {text!r} is no list: {error}") from error
    if not isinstance(refs, list) or not refs:
        raise UserError(f"--metrics: {text!r} names no metric; dmf plugins lists those there are")
    for ref in refs:
        _look_at(ref, {"reference": reference, "model": False})
    return refs


def _look_at(ref: Any, given: dict[str, bool]) -> None:
    if not isinstance(ref, str) and not (isinstance(ref, dict) and isinstance(ref.get("name"), str)):
        raise UserError(f"--metrics: {ref!r} is neither a name nor {{name: frechet, features: digits}}")
    name, _ = name_and_options("metric", ref)
    if wrong := part_problems("metric", ref):
        raise UserError("; ".join(one.of_part(f"--metrics: metric {name!r}") for one in wrong))
    check_needs(name, getattr(load("metric", name), "needs", ()), given)


def _metric(ref: Any) -> Named:
    name, options = name_and_options("metric", ref)
    try:
        whole = PartRef(name, fill(load("metric", name), "metric", options))
        return Named(name, build("metric", name, **options), protocol.called(whole))
    except UserError as error:
        raise UserError(f"--metrics: {error}") from error


def _whole(args: argparse.Namespace, name: str) -> int | None:
    """The number that a flag gives."""
    text = getattr(args, name)
    least = 0 if name == "seed" else 1
    if text is not None and not (text.isascii() and text.isdecimal() and least <= int(text) < 2**63):
        raise UserError(f"--{name.replace('_', '-')} {text}: expected a whole number of at least {least}")
    return None if text is None else int(text)


def _chosen(made: Real, images: int | None) -> Real:
    if images is not None and images > len(made):
        raise UserError(f"--images {images}: {made.name} has {len(made)} images; write at most so many")
    return made if images is None else made.some(images)


def _stream(against: Dataset | Statistics | None, words: str, world: World) -> Real | Statistics | None:
    if against is None or isinstance(against, Statistics):
        return against
    return Real(against, source_of(against, world.device), called(words))


def _held_out(against: Dataset | Statistics | None, world: World) -> Real | None:
    """The images that the reference's data set holds out, for scale."""
    held = against.held_out() if isinstance(against, Dataset) else None
    return None if held is None else Real(held, source_of(held, world.device), "held-out images")
