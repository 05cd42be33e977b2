"""The evaluation that a recipe asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...core import Dataset, Statistics
from ...core.sampler import Watch
from ...registry import Recipe, UserError
from ..assemble import ReferenceModel, part
from ..feed import Source, source_of
from ..world import World
from .passes import Named, OnShown
from .results import Results, repeated
from .scoring import Scored, Scoring
from .streams import Generated, Real, Stream, called_held_out
from .trained import Trained
from .values import NoValue

KEPT = "the checkpoints are kept, and `dmf run` with other metrics or images goes on from here"


class Evaluation:
    """The evaluation that a recipe asks for.

    Args:
        recipe: Gives images, metrics, sampler.
        dataset: The reference, and source of the labels.
        world: The ranks.
        watch: Called after each sampling step; may raise, to stop.
        source: Gives the data set's images; None makes one.
        reference: What is compared with in place of the data set.

    Raises:
        UserError: A metric cannot be had of this data or this many images; before the long work.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        world: World,
        watch: Watch | None = None,
        source: Source | None = None,
        *,
        reference: Stream | Statistics | None = None,
    ) -> None:
        self.recipe, self.dataset, self.world, self.watch = recipe, dataset, world, watch
        wanted = recipe.evaluate
        self.source = source or source_of(dataset, world.device, recipe.loading)
        own = Real(dataset, self.source, recipe.dataset.name)
        # rank 0 first: it downloads the weights that are missing
        metrics = world.first_alone(lambda: [Named(ref.name, part("metric", ref)) for ref in wanted.metrics])
        self.scoring = Scoring(
            metrics,
            world,
            wanted.batch_size,
            reference=own if reference is None else reference,
            held_out=self._held_out(metrics),
            scale=wanted.held_out,
        )
        try:
            self.scoring.check(dataset.spec, recipe.dataset.name, wanted.images, model=True)
        except UserError as error:
            raise UserError(f"evaluate.metrics: {error}") from error

    def run(
        self,
        trained: Trained,
        guide: ReferenceModel | None,
        *,
        recipe: Recipe | None = None,
        on_shown: OnShown | None = None,
        alone: bool = True,
    ) -> Scored:
        """Score ``trained``; may be called again, and then what was read of real images is not read again.

        Args:
            trained: Whose samples.
            guide: The network to guide away from, if the recipe has one.
            recipe: With another sampler, seed or number of images than the evaluation's own; None is that.
            on_shown: Gets each batch of samples, on the rank that has it.
            alone: Whether to score the metrics that look at held-out images alone.

        Raises:
            UserError: A metric cannot be had of what was seen, on every rank.
        """
        given = (recipe or self.recipe, self.dataset, self.source, trained, guide, self.watch)
        try:
            return self.scoring.score(Generated(*given), model=trained, on_shown=on_shown, alone=alone)
        except NoValue as error:
            raise UserError(f"evaluate.metrics: {error}; {KEPT}") from error

    def over_seeds(
        self,
        first: Results,
        count: int,
        trained: Trained,
        guide: ReferenceModel | None,
        *,
        recipe: Recipe | None = None,
    ) -> Results:
        """The results of ``count`` seeds, from the recipe's own on.

        What looks at held-out images alone depends on no sample, and so on no seed: it is not computed again.

        Args:
            first: Of the first seed, by `run`.
            count: How many.
            trained: Whose samples.
            guide: The network to guide away from, if the recipe has one.
            recipe: As of `run`.

        Raises:
            UserError: A metric cannot be had of what was seen, on every rank.
        """
        own, once = recipe or self.recipe, self.scoring.once
        runs = {own.evaluate.seed: first}
        for seed in range(own.evaluate.seed + 1, own.evaluate.seed + count):
            seeded = replace(own, evaluate=replace(own.evaluate, seed=seed))
            runs[seed] = self.run(trained, guide, recipe=seeded, alone=False).results
        return repeated(runs, once)

    def _held_out(self, metrics: Sequence[Named]) -> Real | None:
        """The data set's held-out images, where they are wanted, for scale or by a metric, and there are any."""
        wanted = self.recipe.evaluate.held_out or any("held_out" in one.metric.needs for one in metrics)
        dataset = self.dataset.held_out() if wanted else None
        if dataset is None:
            return None
        source = source_of(dataset, self.world.device, self.recipe.loading)
        return Real(dataset, source, called_held_out(self.recipe.dataset.name), self.recipe.evaluate.seed)
