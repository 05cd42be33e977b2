"""How long a sweep will take: what one evaluation of the network takes here, times how many it needs."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from ...registry import Recipe
from ..assemble import Sampling, is_unguided
from ..evaluation.evaluation import Evaluation
from ..evaluation.trained import Trained
from ..feed import image_numbers
from ..generate import Generator


def network_calls(recipe: Recipe, sampling: Sampling) -> int | None:
    """How often a batch goes through the network, a guided one twice each time; None where the sampler decides."""
    if sampling.sampler.evaluations is None:
        return None
    steps = len(sampling.levels) - 1
    return steps * sampling.sampler.evaluations * (1 if is_unguided(recipe.sampler) else 2)


def call_s(recipe: Recipe, evaluation: Evaluation, trained: Trained, sampling: Sampling) -> float:
    """Seconds that a batch takes to go through the network once.

    Args:
        recipe: Of a point.
        evaluation: Gives the batch size and the conditions.
        trained: The network.
        sampling: Of the point.
    """
    device, wanted = evaluation.world.device, recipe.evaluate
    rows = image_numbers(wanted.seed, len(evaluation.dataset), 0, min(wanted.batch_size, wanted.images))
    known = evaluation.dataset.conditions()
    cond = evaluation.source.take(rows)[1] if known is None else {name: one[rows] for name, one in known.items()}
    maker = Generator(trained.model, trained.network, sampling, device)
    with torch.inference_mode():
        walk = maker.prepared(wanted.seed, range(len(rows)), cond)
        x = sampling.levels[0].sigma * walk.streams.randn()
        for _ in range(2):  # the first makes ready
            began_s = time.perf_counter()
            walk.denoise(x, sampling.levels[0])
            if device.type == "cuda":
                torch.cuda.synchronize(device)
    return (time.perf_counter() - began_s) / (1 if is_unguided(recipe.sampler) else 2)


def in_words(seconds: float) -> str:
    """About how long: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def samples_s(calls: Sequence[int | None], recipe: Recipe, one_s: float, repeats: int, ranks: int) -> float:
    """Seconds that the samples of some points take; those of an adaptive sampler are not in it.

    Args:
        calls: `network_calls` of each.
        recipe: Gives the numbers of images and of a batch.
        one_s: `call_s`.
        repeats: Seeds of each point.
        ranks: Who share the work.
    """
    batches = -(-recipe.evaluate.images // recipe.evaluate.batch_size)
    return sum(n for n in calls if n is not None) * one_s * -(-batches // ranks) * repeats
