"""The networks that the points of a sweep are made with."""

from __future__ import annotations

from ...registry import Recipe
from ..assemble import Model, ReferenceModel, is_unguided
from ..evaluation.trained import Trained, load_trained
from ..folder import RunFolder
from ..reference import load_reference
from ..world import World


class Networks:
    """One of the run's own at a time, as points may differ in its weights, and those that guide it.

    Args:
        folder: The run's.
        step: Of its checkpoint; None is the newest.
        world: The ranks.
        trained: What is loaded.
        weights: What was asked for it.
    """

    def __init__(self, folder: RunFolder, step: int | None, world: World, trained: Trained, weights: str) -> None:
        self.folder, self.step, self.world, self._trained, self._weights = folder, step, world, trained, weights
        self._guides: dict[str, ReferenceModel | None] = {}

    @property
    def model(self) -> Model:
        """What stands around the network."""
        return self._trained.model

    def of(self, recipe: Recipe) -> Trained:
        """The network with the weights that a point asks for."""
        wanted = recipe.evaluate.weights
        if wanted != self._weights:
            self._trained, self._weights = load_trained(self.model, self.folder, wanted, self.step), wanted
            self._trained.network.to(self.world.device)
        return self._trained

    def guide(self, recipe: Recipe) -> ReferenceModel | None:
        """The network to guide away from, if a point has one."""
        if recipe.sampler.reference is None or is_unguided(recipe.sampler):
            return None
        key, step = repr(recipe.sampler.reference), self._trained.step
        if key not in self._guides:
            self._guides[key] = load_reference(recipe, self.model, self.folder, step, self.world.device)
        return self._guides[key]
