"""What a network draws by itself, such as its dropout, is other in each step and on each rank."""

from pathlib import Path

import torch
from training_kit import trainer

from dmf.runner.training.step import draws_of
from dmf.runner.world import World


def test_each_step_and_rank_drops_other_units_of_a_network(tiny: Path) -> None:
    """As a network asks for them in its forward pass, in steps that are taken."""
    with trainer(tiny, "train.steps=3") as one:
        seeds = [torch.initial_seed() for _ in range(2) if one.step() is None]
        again = draws_of(one.recipe, one.take_step.draws.model, World(1, 2, torch.device("cpu")))
        again.seed_network(24)
        seeds.append(torch.initial_seed())
        one.take_step.draws.seed_network(24)
    assert len({*seeds}) == 3 and torch.initial_seed() == seeds[1]
