"""`dmf evaluate RUN`: images of a trained run, scored while they are made."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from torch import Tensor

from ...core import Statistics
from ...files.writing import write_json
from ...registry import Recipe, UserError, read
from ..assemble import ReferenceModel, build_dataset, build_model
from ..compute import set_up
from ..conditions import check_guidance
from ..console import log
from ..evaluation import Evaluation, Results, Trained, table
from ..evaluation.first_images import scored_with_grid, told_as
from ..evaluation.reference_file import check_written, write_reference
from ..evaluation.report import digest, with_kept, write_pictures
from ..evaluation.saving import saving
from ..evaluation.streams import Real
from ..evaluation.tracking import Tracked, tracked
from ..evaluation.trained import load_trained
from ..feed import source_of
from ..folder import RunFolder
from ..image_sets.named import called, open_reference
from ..pipeline import wants_scores
from ..reference import load_reference
from ..runs import find_run, weights_of
from ..world import World
from .evaluate import recipe_overrides
from .on_ranks import on_ranks


def score_run(args: argparse.Namespace) -> int:
    """Run the command."""
    folder = find_run(args.run, args.runs)
    recipe = read(folder.recipe, recipe_overrides(args))
    if not wants_scores(recipe):
        wanted = recipe.evaluate
        none = [*([] if wanted.images else ["the number of images is 0"])]
        none += [] if wanted.metrics else ["the list of metrics is empty"]
        raise UserError(
            f"nothing to score: {' and '.join(none)}; give --images N and --metrics LIST, or put them in the recipe"
        )
    if args.weights is not None:
        weights_of(args.weights, recipe)
    return on_ranks(recipe.device, partial(_score, args, folder, recipe), recipe.distributed.timeout_s)


def _score(args: argparse.Namespace, folder: RunFolder, recipe: Recipe, world: World) -> None:
    evaluation, trained, guide = _prepared(args, folder, recipe, world)
    if args.sweep is not None:
        from ..sweeps.sweep import Asked, sweep

        track, best, file = not args.no_track, args.write_best, args.json
        asked = Asked(args.sweep, recipe_overrides(args), args.repeats or 1, best, file, track, _also(args))
        sweep(asked, folder, evaluation, trained, world)
        return
    with ExitStack() as stack:
        kept = None
        if args.save_images is not None:
            images, spec = recipe.evaluate.images, evaluation.dataset.spec
            kept = stack.enter_context(saving(args.save_images, images, spec, world))
        first = scored_with_grid(evaluation, trained, guide, [] if kept is None else [kept.take])
        if kept is not None:
            log.info("images: %s", kept.finish())
    results = evaluation.over_seeds(first.results, args.repeats or 1, trained, guide)
    wanted, gave = not args.no_track, evaluation.scoring.gave
    with tracked(folder, recipe, world, wanted=wanted, also=_also(args), gave=gave) as told:
        if world.first:
            _report(args, folder, trained.step, results, first.pictures, told)
            if args.write_reference is not None:
                write_reference(args.write_reference, evaluation.scoring)
                log.info("statistics of the reference: %s", args.write_reference)


def _prepared(
    args: argparse.Namespace, folder: RunFolder, recipe: Recipe, world: World
) -> tuple[Evaluation, Trained, ReferenceModel | None]:
    """The metrics, which say what is wrong first; the network; what guides it, if anything does."""
    set_up(recipe.compute, world.device)
    dataset = build_dataset(recipe, world)
    check_guidance(recipe.sampler, dataset.spec, recipe.train.label_dropout)
    evaluation = Evaluation(recipe, dataset, world, reference=_reference(args, world))
    if args.write_reference is not None:
        check_written(evaluation.scoring.metrics)
    trained = load_trained(build_model(recipe, dataset.spec), folder, recipe.evaluate.weights)
    trained.network.to(world.device)
    return evaluation, trained, load_reference(recipe, trained.model, folder, trained.step, world.device)


def _reference(args: argparse.Namespace, world: World) -> Real | Statistics | None:
    """What the command line gives in place of the run's data."""
    if args.reference is None:
        return None
    found = open_reference(args.reference, "--reference", world, args.labels, args.on_error)
    if isinstance(found, Statistics):
        return found
    return Real(found, source_of(found, world.device), called(args.reference))


def _also(args: argparse.Namespace) -> list[str]:
    """What tells these values apart and is not in the recipe."""
    reference = [] if args.reference is None else [f"against:{called(args.reference)}"]
    return reference + ([f"repeats:{args.repeats}"] if (args.repeats or 1) > 1 else [])


def _report(
    args: argparse.Namespace,
    folder: RunFolder,
    step: int,
    results: Results,
    pictures: dict[str, Tensor],
    told: Tracked,
) -> None:
    """On the screen, in files, to the trackers."""
    home, name = folder.path / "evaluation", digest(results)
    home.mkdir(exist_ok=True)
    files: list[Path] = [home / f"{name}.json", *([args.json] if args.json is not None else [])]
    write_json(files[0], with_kept(results, files[0]))
    if args.json is not None:
        write_json(args.json, results)
    place, before = (args.pictures, "") if args.pictures is not None else (home, f"{name}-")
    written = write_pictures(pictures, place, before)
    log.info("%s\nvalues and protocols: %s", table(results), ", ".join(map(str, files)))
    if written:
        log.info("pictures: %s", ", ".join(map(str, written.values())))
    told.metrics(step, results)
    for picture, image in pictures.items():
        told.picture(told_as(picture), image)
    told.file(files[0])
