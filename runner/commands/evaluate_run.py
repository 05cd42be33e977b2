"""`dmf evaluate RUN`: images of a trained run, scored while they are made."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from torch import Tensor

from ...core import DataSpec, Statistics
from ...files.writing import write_json
from ...registry import Recipe, UserError
from ..assemble import ReferenceModel, build_dataset, build_model
from ..compute import set_up
from ..conditions import check_guidance
from ..console import log
from ..evaluation import Evaluation, Results, Scored, Trained, table
from ..evaluation.evaluation import tell_errors
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
from ..outputs import Outputs, why_not
from ..pipeline import wants_scores
from ..reference import kind_of, load_reference
from ..runs import find_checkpoint, recipe_of, spec_of, weights_of
from ..weights import Weights, find_weights
from ..world import LocalError, World
from .evaluate import recipe_overrides
from .on_ranks import on_ranks


def score_run(args: argparse.Namespace) -> int:
    """Run the command."""
    folder, step = find_checkpoint(args.run, args.runs)
    recipe = recipe_of(folder, recipe_overrides(args))
    if not wants_scores(recipe):
        wanted = recipe.evaluate
        none = [*([] if wanted.images else ["the number of images is 0"])]
        none += [] if wanted.metrics else ["the list of metrics is empty"]
        raise UserError(
            f"nothing to score: {' and '.join(none)}; give --images N and --metrics LIST, or put them in the recipe"
        )
    if args.weights is not None:
        weights_of(args.weights, recipe)
    home = _home(args, folder)
    return on_ranks(recipe.device, partial(_score, args, folder, step, home, recipe), recipe.distributed.timeout_s)


def _home(args: argparse.Namespace, folder: RunFolder) -> Path | None:
    """Where in the run's folder results go; None where nothing can be written there, and ``--json`` gets them.

    Raises:
        UserError: Nothing can be written there, and that is where they have to be.
    """
    home = folder.path / ("evaluation" if args.sweep is None else "sweeps")
    why = why_not(home / "report.json")
    if why is None:
        return home
    if args.sweep is not None:
        raise UserError(f"--sweep keeps what is done in {home}, and nothing can be written there: {why}")
    if args.json is None:
        raise UserError(f"the report cannot be written to {home}: {why}; give --json FILE, to have it there")
    return None


def _score(
    args: argparse.Namespace, folder: RunFolder, step: int | None, home: Path | None, recipe: Recipe, world: World
) -> None:
    if home is None and world.first:
        log.warning("nothing can be written in %s: report and pictures are with --json alone", folder.path)
    evaluation, trained, found, guide = _prepared(args, folder, step, recipe, world)
    if args.sweep is not None:
        from ..sweeps.sweep import Asked, sweep

        track, best, file = not args.no_track, args.write_best, args.json
        asked = Asked(args.sweep, step, recipe_overrides(args), args.repeats or 1, best, file, track, _also(args))
        sweep(asked, folder, evaluation, trained, found, world)
        return
    wanted, gave = not args.no_track, evaluation.scoring.gave
    with Outputs() as files:
        with tracked(folder, recipe, world, wanted=wanted, also=_also(args), gave=gave) as told:
            first = _first(args, evaluation, trained, guide, files)
            scored = evaluation.over_seeds(first, args.repeats or 1, trained, guide)
            if world.first and (scored.results or scored.pictures):
                _report(args, home, trained.step, scored.results, scored.pictures, told, files)
            place = args.write_reference if world.first else None
            if place is not None and files.write(place, lambda: write_reference(place, evaluation.scoring)):
                log.info("statistics of the reference: %s", place)
        tell_errors(scored)


def _first(
    args: argparse.Namespace,
    evaluation: Evaluation,
    trained: Trained,
    guide: ReferenceModel | None,
    files: Outputs,
) -> Scored:
    """The scores of the first seed; its images are kept, where that is wanted."""
    if args.save_images is None:
        return scored_with_grid(evaluation, trained, guide)
    images, spec = evaluation.recipe.evaluate.images, evaluation.dataset.spec
    with saving(args.save_images, images, spec, evaluation.world) as kept:
        first = scored_with_grid(evaluation, trained, guide, [kept.take])
        if not first.complete:
            return first
        try:
            log.info("images: %s", kept.finish())
        except LocalError:  # the other ranks do not know of it
            raise
        except UserError as error:
            files.missing.append(str(error))
    return first


def _prepared(
    args: argparse.Namespace, folder: RunFolder, step: int | None, recipe: Recipe, world: World
) -> tuple[Evaluation, Trained, Weights, ReferenceModel | None]:
    """The metrics, which say what is wrong first; the network; what guides it, if anything does."""
    set_up(recipe.compute, world.device)
    find = partial(find_weights, folder, recipe.evaluate.weights, step)
    first: Weights = world.tell(world.first_only(find))
    dataset = build_dataset(recipe, world)
    _check_data(dataset.spec, spec_of(folder), recipe)
    check_guidance(recipe.sampler, dataset.spec, recipe.train.label_dropout)
    evaluation = Evaluation(recipe, dataset, world, reference=_reference(args, world))
    if args.write_reference is not None:
        check_written(evaluation.scoring.metrics)
    model = build_model(recipe, dataset.spec)
    evaluation.check_model(model.codec)
    # on one rank: a training that goes on writes newer ones, and removes what was there before the data were read
    found: Weights = world.tell(world.first_only(lambda: first if first.path.is_dir() else find()))
    trained = load_trained(model, folder, found)
    trained.network.to(world.device)
    return evaluation, trained, found, load_reference(recipe, trained.model, folder, trained.step, world)


def _check_data(here: DataSpec, trained: DataSpec, recipe: Recipe) -> None:
    """Accept the data whose labels the images get."""
    if here != trained:
        raise UserError(
            f"dataset: {recipe.dataset.name} is {kind_of(here, trained)}, and the run was trained on "
            f"{kind_of(trained, here)}: its network takes no other; --reference SET compares its images with others"
        )


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
    home: Path | None,
    step: int,
    results: Results,
    pictures: dict[str, Tensor],
    told: Tracked,
    files: Outputs,
) -> None:
    """On the screen, which takes it whatever becomes of the files; in those, to the trackers."""
    own = None if home is None else home / f"{digest(results)}.json"
    reports: list[tuple[Path, Results]] = []
    if results:  # else there are pictures alone, to see what is wrong with the images
        log.info("%s", table(results))
        reports += [(own, with_kept(results, own))] if own is not None else []
        reports += [(args.json, results)] if args.json is not None else []
    written = [path for path, report in reports if files.write(path, partial(_write_report, path, report))]
    if written:
        log.info("values and protocols: %s", ", ".join(map(str, written)))
    shown = write_pictures(files, pictures, *_place_of_pictures(args, own))
    if shown:
        log.info("pictures: %s", ", ".join(map(str, shown)))
    told.metrics(step, results)
    for picture, image in pictures.items():
        told.picture(told_as(picture), image)
    if own in written:
        told.file(own)


def _write_report(path: Path, results: Results) -> None:
    path.parent.mkdir(exist_ok=True)
    write_json(path, results)


def _place_of_pictures(args: argparse.Namespace, own: Path | None) -> tuple[Path, str]:
    """A folder, and what their names begin with: as the report that they are beside."""
    if args.pictures is not None:
        return args.pictures, ""
    beside: Path = args.json if own is None else own
    return beside.parent, f"{beside.stem}-"
