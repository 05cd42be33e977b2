"""A training step of ours beside the same network's forward and backward pass and AdamW, written by hand.

By hand there are neither batches to gather nor times and noise to draw; nor labels dropped, losses in general, the
gradient's norm, averages, counts, nor a guard: what those cost is what the step costs above it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...testing.bench.backbone_report import processor
from ...testing.bench.timing import Spread, Step, by_turns, spread
from ..assemble import build_model
from ..training import Trainer
from ..training.precision import dtype_of
from ..world import World
from .steps import training

BATCHES = 4  # that the loop by hand goes round and round
MOST_PERCENT = 5.0  # is wanted

Inputs = tuple[Tensor, Tensor, Mapping[str, Tensor]]


@dataclass(frozen=True)
class Cost:
    """Of the training steps of a recipe.

    Attributes:
        recipe: Its name.
        images: A step.
        ours_ms: A step of ours.
        by_hand_ms: A step of the loop by hand.
        above: What ours takes longer, in percent, pair by pair.
    """

    recipe: str
    images: int
    ours_ms: Spread
    by_hand_ms: Spread
    above: Spread


def cost(name: str, words: Sequence[str], world: World, scratch: Path, rounds: int, tick: Callable[[], None]) -> Cost:
    """Measure a recipe's steps, side by side with the loop by hand.

    Args:
        name: The recipe's.
        words: Values to change, ``place=value``.
        world: One rank.
        scratch: For the run's folder.
        rounds: Timed steps of each.
        tick: Called after each round, and before the first.
    """
    with training(name, words, world, scratch) as trainer:
        ours, by_hand = by_turns(trainer.step, _by_hand(trainer), rounds, world.device, tick)
        size = trainer.recipe.train.batch_size
    above = spread([100 * (a / b - 1) for a, b in zip(ours, by_hand, strict=True)])
    ours_ms, by_hand_ms = (spread([1000 * seconds for seconds in side]) for side in (ours, by_hand))
    return Cost(name, size, ours_ms, by_hand_ms, above)


def _by_hand(trainer: Trainer) -> Step:
    """A step on batches that are there, of a network of its own."""
    recipe, device = trainer.recipe, trainer.world.device
    network = build_model(recipe, trainer.feed.dataset.spec).backbone.to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), recipe.train.lr, fused=True)
    batches = itertools.cycle(_inputs(trainer))
    dtype = dtype_of(trainer.state.precision)

    def step() -> None:
        (x, noise, cond), target = next(batches)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            output = network(x, noise, cond)
        loss = (output[:, : x.shape[1]].float() - target).square().mean()
        loss.backward()
        optimizer.step()

    return step


def _inputs(trainer: Trainer) -> list[tuple[Inputs, Tensor]]:
    """What the network is given in the first steps, and something to aim at."""
    step, learner, seen = trainer.take_step, trainer.state.learner, list[Inputs]()
    watch = learner.backbone.register_forward_pre_hook(lambda module, given: seen.append(given))
    with torch.no_grad():
        for n in range(BATCHES):
            images_seen = n * trainer.recipe.train.batch_size
            learner(*step.draws(trainer.feed.batch(images_seen), images_seen))
    watch.remove()
    return [(given, torch.randn_like(given[0])) for given in seen]


def table(costs: Sequence[Cost], device: torch.device) -> str:
    """Markdown."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    threads = "" if device.type == "cuda" else f", {torch.get_num_threads()} thread(s)"
    lines = [
        f"On {where}{threads}; torch {torch.__version__}. Medians, quartiles in brackets; wanted above: at most "
        f"{MOST_PERCENT:g} %.\n",
        "| recipe | images a step | our step, ms | by hand, ms | above, % |",
        "|---|---:|---:|---:|---:|",
    ]
    for one in costs:
        spreads = (one.ours_ms, one.by_hand_ms, one.above)
        figures = " | ".join(f"{s.median:,.1f} ({s.low:,.1f} to {s.high:,.1f})" for s in spreads)
        lines.append(f"| `{one.recipe}` | {one.images} | {figures} |")
    return "\n".join(lines) + "\n"
