"""`dmf sample`: images from a trained run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..outputs import Outputs
from ..sampler_words import SAMPLER_KEYS
from . import labels
from .flags import (
    add_checkpoint,
    add_overrides,
    add_runs,
    add_sampling,
    check_folder,
    check_writable,
    overrides_of,
    positive,
)
from .starts import Start, add_starts, read_start

if TYPE_CHECKING:
    from torch import Tensor

    from ...core import DataSpec

HELP = "make images from a trained run"
RECIPE_KEYS = {**SAMPLER_KEYS, "seed": "sample.seed", "batch_size": "sample.batch_size"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add_checkpoint(parser)
    add_overrides(parser)
    parser.add_argument(
        "--count",
        metavar="N",
        type=positive,
        help="number of images (default: 10 of each class, or one of each picture that is given)",
    )
    parser.add_argument("--labels", metavar="LIST", help=labels.HELP)
    add_sampling(parser)
    add_starts(parser)
    parser.add_argument(
        "--grid", metavar="FILE", type=Path, help="write one picture (default: samples/sample.png in the run's folder)"
    )
    parser.add_argument(
        "--npz", metavar="FILE", type=Path, help="write arr_0, uint8 (N, H, W, C), and arr_1, the labels"
    )
    parser.add_argument(
        "--strips",
        metavar="N",
        type=positive,
        help="also write N pictures of each image on its way from noise, a row an image, beside the one picture",
    )
    add_runs(parser)


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    import torch

    from ...files.lettering import written_names
    from ...files.sheets import save_png
    from ..assemble import build_model, build_sampling, part
    from ..compute import set_up
    from ..conditions import check_guidance, conditions
    from ..console import TaskProgress, start_console
    from ..evaluation.trained import load_trained
    from ..generate import Generator
    from ..reference import load_reference
    from ..runs import find_checkpoint, recipe_of, spec_of, weights_of
    from ..strips import Strips
    from ..weights import find_weights
    from ..world import join

    start_console(0)
    folder, step = find_checkpoint(args.run, args.runs)
    spec = spec_of(folder)
    start = read_start(args, spec)
    recipe = recipe_of(folder, [*start.overrides, *overrides_of(args, RECIPE_KEYS), *args.overrides])
    classes, count = _wanted(args, start, spec)
    labels.check_unlabelled(classes, spec, recipe.train.label_dropout)
    check_guidance(recipe.sampler, spec, recipe.train.label_dropout)
    check_writable(args.npz)
    check_writable(args.grid, (".png",))
    if args.grid is None and args.npz is None:
        check_folder(folder.samples, "--grid")
    course = start.course(part("codec", recipe.codec, spec))
    weights = weights_of(args.weights or start.weights, recipe)
    world = join(recipe.device)
    set_up(recipe.compute, world.device)
    trained = load_trained(build_model(recipe, spec), folder, find_weights(folder, weights, step))
    reference = load_reference(recipe, trained.model, folder, trained.step, world)
    sampling = build_sampling(recipe.sampler, trained.model.schedule, reference)
    start.check(trained, sampling)
    strips = Strips(trained.model.codec, sampling.levels, args.strips) if args.strips else None
    maker = Generator(trained.model, trained.network, sampling, world.device, strips, course)
    cond = conditions(classes, count, spec, folder.examples)
    batches = maker.batches(recipe.sample.seed, range(count), cond, recipe.sample.batch_size)
    images, evaluations = [], 0
    with TaskProgress("sample", count) as bar:
        for batch in batches:
            images.append(batch.images.cpu())
            evaluations = max(evaluations, batch.evaluations)
            bar.step(len(batch.images))
    made = f"{count} images, {evaluations} network evaluations each"
    with Outputs() as files:
        write(args, folder.samples, torch.cat(images), classes, spec, made, files)
        if strips is not None:
            path = beside(args.grid or args.npz or folder.samples / "sample.png")
            names = written_names((*spec.classes, labels.NONE))
            sheet = strips.sheet([names[label] for label in classes])
            if files.write(path, lambda: save_png(sheet, path)):
                print(f"their ways from noise: {path}")
    return 0


def beside(path: Path) -> Path:
    """Where the strips of what is written there are."""
    return path.with_name(f"{path.stem}-strips.png")


def _wanted(args: argparse.Namespace, start: Start, spec: DataSpec) -> tuple[list[int], int]:
    """The label of each image, and how many there are."""
    chosen = labels.chosen_labels(args.labels, spec)
    if start.count:  # one of each that was given, of the class that it has
        count = args.count or max(start.count, len(chosen))
        return labels.spread(chosen or start.labels, count), count
    classes = labels.wanted_labels(chosen, args.count, spec)
    return classes, args.count or len(classes) or 100


def write(
    args: argparse.Namespace,
    samples: Path,
    images: Tensor,
    classes: list[int],
    spec: DataSpec,
    made: str,
    files: Outputs,
) -> None:
    """Write the picture and the arrays; ``made`` says what they are."""
    import numpy as np

    from ...files.sheets import labelled_sheet, save_png
    from ..image_sets.arrays import write_images

    if args.npz is not None:
        rows, kinds = images.permute(0, 2, 3, 1).numpy(), np.asarray(classes, dtype=np.int64) if classes else None
        if files.write(args.npz, lambda: write_images(args.npz, rows, kinds)):
            print(f"{made}: {args.npz}")
    if args.grid is not None or args.npz is None:
        path = args.grid or samples / "sample.png"
        sheet = labelled_sheet(images, classes, (*spec.classes, labels.NONE))
        if files.write(path, lambda: save_png(sheet, path)):
            print(f"{made}: {path}")
