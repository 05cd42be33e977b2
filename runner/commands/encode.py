"""`dmf encode`: the noise from which a trained run makes given images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..sampler_words import SAMPLER_KEYS
from . import labels
from .flags import add_checkpoint, add_runs, add_walk, check_writable, overrides_of

if TYPE_CHECKING:
    from ...core import Level
    from ...registry import Recipe
    from ..encoding import Made
    from ..evaluation import Trained

HELP = "find the noise from which a trained run makes given images"
RECIPE_KEYS = {**SAMPLER_KEYS, "batch_size": "sample.batch_size"}
# by its tolerance it comes back to the image; it chooses its own steps, so that a grid of two levels is the cheapest
SAMPLER = ("sampler.name=rk45", "sampler.rtol=1e-5", "sampler.atol=1e-5", "sampler.steps=2", "sampler.grid=log_snr")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add_checkpoint(parser)
    parser.add_argument(
        "images", metavar="IMAGE", type=Path, nargs="+", help="pictures of the size of the run's images"
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        required=True,
        help="write the noise here, as safetensors: dmf sample --noise",
    )
    parser.add_argument("--labels", metavar="LIST", help=f"what they show: {labels.HELP} (default: none)")
    add_walk(parser)
    parser.set_defaults(guidance="1")
    add_runs(parser)


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ..assemble import build_model, build_sampling
    from ..compute import set_up
    from ..conditions import check_guidance, conditions
    from ..console import start_console
    from ..encoding import Encoded, encode_images, save_encoded
    from ..evaluation.trained import load_trained
    from ..generate import Generator
    from ..outputs import Outputs
    from ..picture_files import read_images
    from ..reference import load_reference
    from ..runs import find_checkpoint, recipe_of, spec_of, weights_of
    from ..weights import find_weights
    from ..world import join

    start_console(0)
    folder, step = find_checkpoint(args.run, args.runs)
    spec = spec_of(folder)
    check_writable(args.out, (".safetensors",))
    images = read_images(args.images, spec)
    recipe = recipe_of(folder, [*(SAMPLER if args.sampler is None else ()), *overrides_of(args, RECIPE_KEYS)])
    none = [spec.null_class] if spec.classes else []
    classes = labels.spread(labels.chosen_labels(args.labels, spec) or none, len(images))
    labels.check_unlabelled(classes, spec, recipe.train.label_dropout)
    check_guidance(recipe.sampler, spec, recipe.train.label_dropout)
    weights = weights_of(args.weights, recipe)
    world = join(recipe.device)
    set_up(recipe.compute, world.device)
    trained = load_trained(build_model(recipe, spec), folder, find_weights(folder, weights, step))
    reference = load_reference(recipe, trained.model, folder, trained.step, world)
    sampling = build_sampling(recipe.sampler, trained.model.schedule, reference)
    maker = Generator(trained.model, trained.network, sampling, world.device)
    cond = conditions(classes, len(images), spec, folder.examples)
    x, evaluations = encode_images(maker, images, cond, recipe.sample.batch_size)
    encoded = Encoded(x, classes, _made(recipe, trained, sampling.levels[0]), args.out)
    with Outputs() as files:
        if files.write(args.out, lambda: save_encoded(encoded)):
            print(f"{len(images)} images, {evaluations} network evaluations each: {args.out}")
            print(f"back to images: dmf sample {args.run} --noise {args.out}")
    return 0


def _made(recipe: Recipe, trained: Trained, level: Level) -> Made:
    """What gives the images back: the sampler with the grid that it used, and these weights."""
    from dataclasses import replace

    from ..assemble import grid_of
    from ..encoding import Made

    sampler = replace(recipe, sampler=replace(recipe.sampler, grid=grid_of(recipe.sampler))).as_dict()["sampler"]
    return Made(recipe.name, trained.step, trained.weights, sampler, float(level.alpha), float(level.sigma))
