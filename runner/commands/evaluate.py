"""`dmf evaluate`: score a trained run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .flags import (
    SAMPLER_KEYS,
    add_overrides,
    add_runs,
    add_sampling,
    check_writable,
    overrides_of,
    positive,
)

if TYPE_CHECKING:
    from ..evaluation import Results

HELP = "score a trained run"
RECIPE_KEYS = {
    **SAMPLER_KEYS,
    "images": "evaluate.images",
    "metrics": "evaluate.metrics",
    "seed": "evaluate.seed",
    "batch_size": "evaluate.batch_size",
    "weights": "evaluate.weights",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("run", help="a run's folder, or its name")
    add_overrides(parser)
    parser.add_argument("--images", metavar="N", help="images to make and score")
    parser.add_argument(
        "--metrics", metavar="LIST", help="metrics, as in the recipe: '[{name: frechet, features: digits}]'"
    )
    add_sampling(parser)
    parser.add_argument(
        "--ranks", metavar="N", type=positive, default=1, help="processes on this machine that share the work"
    )
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="write values and protocols here (default: only shown)"
    )
    add_runs(parser)


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ..launch import launch, under_launcher
    from .run_folder import find_run

    find_run(args.run, args.runs)  # before any process is started
    check_writable(args.json)
    if args.ranks > 1 and not under_launcher():
        return launch(args.ranks, args.argv)
    return _work(args)


def _work(args: argparse.Namespace) -> int:
    from ...registry import UserError, read
    from ..assemble import build_dataset, build_model
    from ..conditions import check_guidance
    from ..console import log, start_console
    from ..evaluation import Evaluation, table
    from ..pipeline import load_trained, wants_scores
    from ..reference import load_reference
    from ..world import join, leave
    from .run_folder import find_run

    folder = find_run(args.run, args.runs)
    recipe = read(folder.recipe, [*overrides_of(args, RECIPE_KEYS), *args.overrides])
    if not wants_scores(recipe):
        raise UserError("nothing to score: give --images N and --metrics '[{name: ...}]', or put them in the recipe")
    world = join(recipe.device)
    start_console(world.rank)
    try:
        dataset = build_dataset(recipe, world)
        check_guidance(recipe.sampler, dataset.spec, recipe.train.label_dropout)
        evaluation = Evaluation(recipe, dataset, world)
        trained = load_trained(build_model(recipe, dataset.spec), folder, recipe.evaluate.weights)
        trained.network.to(world.device)
        reference = load_reference(recipe, trained.model, folder, trained.step, world.device)
        results, _ = evaluation.run(trained, reference)
        if world.first:
            log.info("%s", table(results))
            _write(args.json, results)
    except UserError:
        if world.first:
            raise
        return 2  # rank 0 says why
    finally:
        leave()
    return 0


def _write(file: Path | None, results: Results) -> None:
    from ...files.writing import write_json

    if file is not None:
        write_json(file, results)
        print(f"values and protocols: {file}")
