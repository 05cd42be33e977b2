"""What the tests of checkpoints share."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dmf.registry.recipe_types import Checkpoint
from dmf.runner.checkpoints import Saver
from dmf.runner.world import World

Groups = Mapping[str, Mapping[str, Tensor]]


def saver(folder: Path, on_saved: Callable[[int, Path], None] = lambda step, path: None, **options: Any) -> Saver:
    """Of one rank on the CPU."""
    return Saver(folder, World(0, 1, torch.device("cpu")), Checkpoint(**options), on_saved)


def weights(value: float, side: int = 4) -> dict[str, dict[str, Tensor]]:
    """Two groups of one tensor."""
    return {"model": {"w": torch.full((side, side), value)}, "ema": {"w": torch.full((side, side), value / 2)}}
