"""`dmf sample`: images from a trained run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .flags import SAMPLER_KEYS, add_runs, add_sampling, check_writable, overrides_of, positive

if TYPE_CHECKING:
    from torch import Tensor

    from ...core import DataSpec

HELP = "make images from a trained run"
RECIPE_KEYS = {**SAMPLER_KEYS, "seed": "sample.seed", "batch_size": "sample.batch_size"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("run", help="a run's folder, or its name")
    parser.add_argument("--count", metavar="N", type=positive, help="number of images (default: 10 of each class)")
    parser.add_argument(
        "--labels", metavar="LIST", help="classes by index or name, as 0,1,2: image k has the (k mod length)-th of them"
    )
    add_sampling(parser)
    parser.add_argument(
        "--grid", metavar="FILE", type=Path, help="write one picture (default: samples/sample.png in the run's folder)"
    )
    parser.add_argument(
        "--npz", metavar="FILE", type=Path, help="write arr_0, uint8 (N, H, W, C), and arr_1, the labels"
    )
    add_runs(parser)


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    import torch

    from ...registry import UserError, read
    from ..assemble import build_model, build_sampling
    from ..conditions import check_guidance, conditions
    from ..console import Progress, start_console
    from ..generate import Generator
    from ..pipeline import load_trained
    from ..reference import load_reference
    from ..world import join
    from .run_folder import find_run, spec_of

    start_console(0)
    folder = find_run(args.run, args.runs)
    recipe = read(folder.recipe, overrides_of(args, RECIPE_KEYS))
    spec = spec_of(folder)
    labels = wanted_labels(args.labels, args.count, spec)
    count = args.count or len(labels) or 100
    check_guidance(recipe.sampler, spec, recipe.train.label_dropout)
    check_writable(args.npz)
    check_writable(args.grid, (".png",))
    if args.weights == "ema" and recipe.train.ema == 0:
        raise UserError("--weights ema: this run keeps no average of its weights (train.ema is 0); leave the flag out")
    world = join(recipe.device)
    trained = load_trained(build_model(recipe, spec), folder, args.weights or "ema")
    reference = load_reference(recipe, trained.model, folder, trained.step, world.device)
    sampling = build_sampling(recipe.sampler, trained.model.schedule, reference)
    maker = Generator(trained.model, trained.network, sampling, world.device)
    cond = conditions(labels, count, spec, folder.examples)
    batches = maker.batches(recipe.sample.seed, range(count), cond, recipe.sample.batch_size)
    images, evaluations = [], 0
    with Progress("sample", count) as bar:
        for batch in batches:
            images.append(batch.images.cpu())
            evaluations = max(evaluations, batch.evaluations)
            bar.step(len(batch.images))
    made = f"{count} images, {evaluations} network evaluations each"
    write(args, folder.samples, torch.cat(images), labels, spec, made)
    return 0


def wanted_labels(text: str | None, count: int | None, spec: DataSpec) -> list[int]:
    """The label of each image: those given, over and over; without any, the classes in turn.

    Raises:
        UserError: Not a class.
    """
    from ...registry import UserError

    if not spec.classes:
        if text:
            raise UserError("--labels was given, but this run's data has no classes")
        return []
    words = [word.strip() for word in text.split(",")] if text else [str(k) for k in range(len(spec.classes))]
    chosen = [_label(word, spec) for word in words]
    total = count or (10 * len(spec.classes) if not text else 10 * len(chosen))
    return [chosen[k % len(chosen)] for k in range(total)]


def _label(word: str, spec: DataSpec) -> int:
    from ...registry import UserError

    if word in spec.classes and not word.isdigit():
        return spec.classes.index(word)
    if word.isdigit() and int(word) < len(spec.classes):
        return int(word)
    listed = ", ".join(spec.classes[:12]) + (", ..." if len(spec.classes) > 12 else "")
    raise UserError(f"--labels: {word!r} is no class; write indices 0 to {len(spec.classes) - 1} or names ({listed})")


def write(
    args: argparse.Namespace, samples: Path, images: Tensor, labels: list[int], spec: DataSpec, made: str
) -> None:
    """Write the picture and the arrays; ``made`` says what they are."""
    import numpy as np

    from ..pictures import labelled_sheet, save_png

    if args.npz is not None:
        arrays: dict[str, Any] = {"arr_0": images.permute(0, 2, 3, 1).numpy()}
        if labels:
            arrays["arr_1"] = np.asarray(labels, dtype=np.int64)
        with open(args.npz, "wb") as file:  # a file object: numpy would append .npz to a name
            np.savez(file, **arrays)
        print(f"{made}: {args.npz}")
    if args.grid is not None or args.npz is None:
        path = args.grid or samples / "sample.png"
        save_png(labelled_sheet(images, labels, spec.classes), path)
        print(f"{made}: {path}")
