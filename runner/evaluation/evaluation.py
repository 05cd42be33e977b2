"""The evaluation that a recipe asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...core import Codec, Dataset, Statistics
from ...core.sampler import Watch
from ...registry import Recipe, UserError
from ..assemble import ReferenceModel, part
from ..feed import Source, source_of
from ..world import World
from .passes import Named, OnShown, Stop
from .protocol import called
from .results import repeated
from .scored import Scored
from .scoring import Scoring
from .streams import Generated, Real, Stream, called_held_out
from .trained import Trained

KEPT = "the checkpoints are kept, and `dmf run` with other metrics or images goes on from here"


def tell_errors(scored: Scored) -> None:
    """End with what is missing, once what there is has been written and shown.

    Args:
        scored: On every rank.

    Raises:
        UserError: On every rank, if anything is.
    """
    if scored.errors:
        there = "; the other values are there" if scored.results else ""
        what = "evaluate.metrics" if scored.complete else "evaluate"
        raise UserError(f"{what}: {'; '.join(scored.errors)}{there}; {KEPT}")


class Evaluation:
    """The evaluation that a recipe asks for.

    Args:
        recipe: Gives images, metrics, sampler.
        dataset: The reference, and source of the labels.
        world: The ranks.
        watch: Called after each sampling step; may raise, to stop.
        source: Gives the data set's images; None makes one.
        stop: Called on every rank after each round of batches; may raise, on all of them.
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
        stop: Stop | None = None,
        reference: Stream | Statistics | None = None,
    ) -> None:
        self.recipe, self.dataset, self.world, self.watch = recipe, dataset, world, watch
        wanted = recipe.evaluate
        self.source = source or source_of(dataset, world.device, recipe.loading)
        own = Real(dataset, self.source, recipe.dataset.name)
        # rank 0 first: it downloads the weights that are missing
        metrics = world.first_alone(
            lambda: [Named(ref.name, part("metric", ref), called(ref)) for ref in wanted.metrics]
        )
        self.scoring = Scoring(
            metrics,
            world,
            wanted.batch_size,
            reference=own if reference is None else reference,
            held_out=self._held_out(metrics),
            scale=wanted.held_out,
            stop=stop,
        )
        try:
            self.scoring.check(dataset.spec, recipe.dataset.name, wanted.images, model=True)
        except UserError as error:
            raise UserError(f"evaluate.metrics: {error}") from error

    def check_model(self, codec: Codec) -> None:
        """Accept the model that is to be scored, before the long work.

        Args:
            codec: Its own.

        Raises:
            UserError: A metric cannot be had of it.
        """
        try:
            self.scoring.check_model(codec)
        except UserError as error:
            raise UserError(f"evaluate.metrics: {error}") from error

    def run(
        self,
        trained: Trained,
        guide: ReferenceModel | None,
        *,
        recipe: Recipe | None = None,
        on_shown: OnShown | None = None,
        wanted: bool = False,
        alone: bool = True,
    ) -> Scored:
        """Score ``trained``; may be called again, and then what was read of real images is not read again.

        Args:
            trained: Whose samples.
            guide: The network to guide away from, if the recipe has one.
            recipe: With another sampler, seed or number of images than the evaluation's own; None is that.
            on_shown: Gets each batch of samples, on the rank that has it.
            wanted: Whether samples are wanted for its sake, should no metric be left.
            alone: Whether to score the metrics that look at held-out images alone.

        Returns:
            What there is, and the errors of what there is not.

        Raises:
            UserError: What is known before the samples; on every rank.
        """
        given = (recipe or self.recipe, self.dataset, self.source, trained, guide, self.watch)
        return self.scoring.score(Generated(*given), model=trained, on_shown=on_shown, wanted=wanted, alone=alone)

    def over_seeds(
        self,
        first: Scored,
        count: int,
        trained: Trained,
        guide: ReferenceModel | None,
        *,
        recipe: Recipe | None = None,
    ) -> Scored:
        """The values of ``count`` seeds, from the recipe's own on; one that gives none takes nothing from the others.

        What looks at held-out images alone depends on no sample, and so on no seed: it is not computed again.

        Args:
            first: Of the first seed, by `run`.
            count: How many.
            trained: Whose samples.
            guide: The network to guide away from, if the recipe has one.
            recipe: As of `run`.
        """
        own, errors, better = recipe or self.recipe, list(first.errors), dict(first.better)
        runs = {own.evaluate.seed: first.results}
        for seed in range(own.evaluate.seed + 1, own.evaluate.seed + count):
            seeded = replace(own, evaluate=replace(own.evaluate, seed=seed))
            scored = self.run(trained, guide, recipe=seeded, alone=False)
            runs[seed], better = scored.results, {**scored.better, **better}
            errors += [f"seed {seed}: {error}" for error in scored.errors]
        results = repeated(runs, self.scoring.once)
        return replace(first, results=results, better=better, errors=tuple(errors))

    def _held_out(self, metrics: Sequence[Named]) -> Real | None:
        """The data set's held-out images, where they are wanted, for scale or by a metric, and there are any."""
        wanted = self.recipe.evaluate.held_out or any("held_out" in one.metric.needs for one in metrics)
        dataset = self.dataset.held_out() if wanted else None
        if dataset is None:
            return None
        source = source_of(dataset, self.world.device, self.recipe.loading)
        return Real(dataset, source, called_held_out(self.recipe.dataset.name), self.recipe.evaluate.seed)
