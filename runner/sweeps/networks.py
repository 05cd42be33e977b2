"""The networks that the points of a sweep are made with."""

from __future__ import annotations

from collections.abc import Mapping

from ...registry import Recipe
from ..assemble import Model, ReferenceModel, is_unguided
from ..evaluation.trained import Trained, load_trained
from ..folder import RunFolder
from ..reference import load_reference
from ..weights import Weights
from ..world import World


class Networks:
    """One of the run's own at a time, as points may differ in its weights, and those that guide it.

    Args:
        folder: The run's.
        world: The ranks.
        trained: What is loaded.
        loaded: By which name.
        weights: Of each name that a point has.
    """

    def __init__(
        self, folder: RunFolder, world: World, trained: Trained, loaded: str, weights: Mapping[str, Weights]
    ) -> None:
        self.folder, self.world, self.weights, self._trained, self._loaded = folder, world, weights, trained, loaded
        self._guides: dict[str, ReferenceModel | None] = {}

    @property
    def model(self) -> Model:
        """What stands around the network."""
        return self._trained.model

    def of(self, recipe: Recipe) -> Trained:
        """The network with the weights that a point asks for."""
        wanted = recipe.evaluate.weights
        if wanted != self._loaded:
            self._trained, self._loaded = load_trained(self.model, self.folder, self.weights[wanted]), wanted
            self._trained.network.to(self.world.device)
        return self._trained

    def guide(self, recipe: Recipe) -> ReferenceModel | None:
        """The network to guide away from, if a point has one."""
        if recipe.sampler.reference is None or is_unguided(recipe.sampler):
            return None
        key, step = repr(recipe.sampler.reference), self._trained.step
        if key not in self._guides:
            self._guides[key] = load_reference(recipe, self.model, self.folder, step, self.world)
        return self._guides[key]
