"""Writing checkpoints while training goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...registry.recipe_types import Checkpoint as Options
from ..world import World
from .files import Tensors, save

Saved = Callable[[int, Path], None]


class Saver:
    """Writes checkpoints; its methods are called on all ranks together.

    Args:
        folder: Of checkpoints.
        world: The ranks.
        options: How they are written, and which stay.
        on_saved: Called with (step, folder) on rank 0 once a checkpoint is whole on disk.
    """

    def __init__(self, folder: Path, world: World, options: Options, on_saved: Saved) -> None:
        self.folder, self.world, self.options, self.on_saved = folder, world, options, on_saved

    def save(self, step: int, groups: Mapping[str, Tensors], facts: Mapping[str, Any]) -> None:
        """Write the checkpoint of a step.

        Args:
            step: Steps taken.
            groups: The tensors, a group a file.
            facts: The rest, plain JSON; rank 0's count.
        """
        if self.world.first:
            self.on_saved(step, save(self.folder, step, groups, facts, self.options.keep))
        self.world.barrier()

    def poll(self) -> None:
        """Between two steps: what has become of a checkpoint that is being written."""

    def finish(self) -> None:
        """Wait for the checkpoint that is being written."""
