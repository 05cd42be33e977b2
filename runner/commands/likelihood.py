"""`dmf likelihood`: how many bits per dimension a trained run gives to real images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .flags import add_checkpoint, add_place, add_runs, check_writable, natural, overrides_of, positive

if TYPE_CHECKING:
    from ...core import Dataset
    from ..likelihood import Split

HELP = "measure the likelihood of real images under a trained run, in bits per dimension"
RECIPE_KEYS = {"device": "device", "batch_size": "sample.batch_size"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add_checkpoint(parser)
    parser.add_argument(
        "--images", metavar="N", type=positive, default=100, help="images, chosen at random (default: 100)"
    )
    parser.add_argument(
        "--split", choices=["held_out", "train"], help="which images (default: held_out, if there are any)"
    )
    parser.add_argument(
        "--probes",
        metavar="N",
        type=natural,
        default=1,
        help="random directions for the trace, in each draw (default: 1); 0 is the exact trace, as costly as an image "
        "has numbers",
    )
    parser.add_argument(
        "--draws", metavar="N", type=positive, default=1, help="places in each grey level's width (default: 1)"
    )
    parser.add_argument("--steps", metavar="N", type=positive, default=50, help="steps of the integral (default: 50)")
    parser.add_argument("--seed", metavar="N", type=natural, default=0, help="of the choice and the draws (default: 0)")
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="also write each image's value here, with the protocol"
    )
    add_place(parser)
    add_runs(parser)


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ...files.writing import write_json
    from ..assemble import build_dataset, build_model
    from ..compute import set_up
    from ..console import start_console
    from ..evaluation.streams import called_held_out
    from ..evaluation.trained import load_trained
    from ..likelihood import Integral, measure
    from ..outputs import Outputs
    from ..runs import find_checkpoint, recipe_of, weights_of
    from ..weights import find_weights
    from ..world import join

    start_console(0)
    check_writable(args.json)
    folder, step = find_checkpoint(args.run, args.runs)
    recipe = recipe_of(folder, overrides_of(args, RECIPE_KEYS))
    weights = weights_of(args.weights, recipe)
    world = join(recipe.device)
    set_up(recipe.compute, world.device)
    dataset = build_dataset(recipe, world)
    split, images = _split(args.split, dataset)
    name = called_held_out(recipe.dataset.name) if split == "held_out" else recipe.dataset.name
    trained = load_trained(build_model(recipe, dataset.spec), folder, find_weights(folder, weights, step))
    integral = Integral(args.probes, args.draws, args.steps, args.seed)
    result = measure(trained, images, split, name, args.images, integral, recipe.sample.batch_size, world.device)
    print(result.line())
    with Outputs() as files:
        if args.json is not None and files.write(args.json, lambda: write_json(args.json, result.as_dict())):
            print(f"values and protocol: {args.json}")
    return 0


def _split(wanted: str | None, dataset: Dataset) -> tuple[Split, Dataset]:
    from ...registry import UserError

    held_out = dataset.held_out()
    if wanted == "held_out" and held_out is None:
        raise UserError("--split held_out: this data set holds no images out; write --split train")
    if wanted == "train" or held_out is None:
        return "train", dataset
    return "held_out", held_out
