"""Scoring: generated images, the reference and held-out images stream through every metric, on every rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ...core import Codec, DataSpec, ScoredModel, Statistics
from ...registry import UserError
from ..console import TaskProgress, log
from ..world import World
from .against import Against
from .better import ways
from .checks import check_extractors, check_metrics, check_model
from .outcome import of_generated, of_held_out
from .passes import Named, OnShown, Pass, Stop, copies, move, share_extractors
from .results import Results
from .scored import Scored
from .streams import Stream, shares
from .trained import Trained
from .values import Found, values_of

__all__ = ["Named", "OnShown", "Scored", "Scoring", "score"]
Done = Callable[[int], None]


class Scoring:
    """Metrics, what they are measured against, and what they have seen of it: to score one set after the other.

    The reference is read once, when the first set is scored, and not even then where what metrics see of it is kept
    from an earlier evaluation; the held-out images are read once too.

    Args:
        metrics: Them; metrics of equal extractors share one from here on.
        world: The ranks.
        batch_size: Images at a time on each rank. The batches are the same on any number of ranks.
        reference: What is compared with: images, or statistics alone.
        held_out: Real images that are scored too, for scale, and those of metrics that look at them alone.
        scale: False scores them for the latter alone.
        stop: Called on every rank after each round of batches; may raise, on all of them.

    Attributes:
        once: Names of the values of held-out images alone, known after the first `score`: they depend on no sample.
        gave: Of each value, and on rank 0 of each picture, the place among ``metrics`` of the one that gave it, by its
            name; known after the first `score`.
    """

    def __init__(
        self,
        metrics: Sequence[Named],
        world: World,
        batch_size: int,
        *,
        reference: Stream | Statistics | None = None,
        held_out: Stream | None = None,
        scale: bool = True,
        stop: Stop | None = None,
    ) -> None:
        self.metrics, self.world, self.batch_size, self.held_out = tuple(metrics), world, batch_size, held_out
        share_extractors(self.metrics)
        self.reference, self.stop = reference, stop
        self.against = Against(self.metrics, world, reference, stop)
        self.alone = [one for one in self.metrics if "held_out" in one.metric.needs]
        self.seeing = [one for one in self.metrics if "held_out" not in one.metric.needs]
        beside = scale and held_out is not None
        self.beside = [one for one in self.metrics if beside and one.metric.needs <= {"reference"}]
        self._scale: Found | None = None  # what the held-out images have in place of generated ones
        self._accepted: list[tuple[DataSpec, int, bool]] = []
        self._said: set[str] = set()
        self.once: frozenset[str] = frozenset()
        self.gave: dict[str, int] = {}

    def check(self, spec: DataSpec, name: str, images: int, *, model: bool) -> None:
        """Accept what is to be scored, before the long work.

        Args:
            spec: Of the generated images, in pixels.
            name: What a message calls them.
            images: Their number.
            model: Whether there is one.

        Raises:
            UserError: A metric cannot be had of it.
        """
        if (spec, images, model) in self._accepted:
            return
        first = not self._accepted  # a metric may prepare itself when it is asked, and that once
        asked = self.metrics if first else copies(self.metrics)
        check_metrics(asked, spec, name, images, reference=self.reference, held_out=self.held_out, model=model)
        if first:
            check_extractors(asked, spec)
        self._accepted.append((spec, images, model))

    def check_model(self, codec: Codec) -> None:
        """Accept the model that is to be scored, before the long work.

        Args:
            codec: Between pixels and what its network sees.

        Raises:
            UserError: A metric cannot be had of it.
        """
        check_model(self.metrics, codec)

    def score(
        self,
        made: Stream,
        *,
        model: Trained | None = None,
        on_shown: OnShown | None = None,
        wanted: bool = False,
        alone: bool = True,
    ) -> Scored:
        """Score a set; may be called again, with another.

        What goes wrong with one metric, or with the images, takes nothing from the others: it is in the errors.

        Args:
            made: The generated images.
            model: What made them, for metrics that ask for it.
            on_shown: Gets each batch of them, on the rank that has it.
            wanted: Whether they are wanted for its sake, should no metric be left.
            alone: False leaves out the metrics that look at held-out images alone, which other samples do not change.

        Raises:
            UserError: It is known before there was a value; on every rank.
        """
        self.check(made.spec, made.name, len(made), model=model is not None)
        if model is not None:
            self.check_model(model.model.codec)
        made = self._paired(made)
        cautions = [self._cautions(one, made) for one in self.metrics]
        self.world.together(lambda: move(self.metrics, self.world.device))
        self.against.recall()
        given = None if model is None else ScoredModel(model.model.denoiser(model.network), model.model.codec)
        shown = made if self.seeing or on_shown is not None else None
        with TaskProgress("evaluate", self._total(shown, self.alone if alone else []), shown=self.world.first) as bar:
            self.against.read(self.batch_size, bar.step)
            # samples take longest: what needs none comes before them
            held_out = self._alone(given, bar.step) if alone else Found()
            found = Found() if shown is None else self._generated(shown, given, on_shown, bar.step, wanted)
            if self._scale is None and found.values:
                self._scale = self._scaled(bar.step)
        if alone:
            self.once = frozenset(held_out.values)
        return self._scored(made, model, found, held_out, cautions)

    def at_rest(self) -> None:
        """Leave the device to others until the next `score`."""
        move(self.metrics, torch.device("cpu"))

    def _scored(
        self, made: Stream, model: Trained | None, found: Found, held_out: Found, cautions: Sequence[Sequence[str]]
    ) -> Scored:
        for some, among in ((found, self.seeing), (held_out, self.alone)):
            self.gave |= {name: self.metrics.index(among[place]) for name, place in some.places().items()}
        results: Results = {}
        if self.world.first:
            said, beside = (lambda one: cautions[self.metrics.index(one)]), (self._scale, self.held_out)
            results = of_generated(found, self.seeing, made, self.against, beside, said)
            results |= of_held_out(held_out, self.alone, self._chosen, model, self.world.device, said)
        return Scored(
            self.world.tell(results),
            found.pictures | held_out.pictures,
            list(dict.fromkeys(sentence for each in cautions for sentence in each)),
            ways({name: self.metrics[self.gave[name]].metric for name in (*found.values, *held_out.values)}),
            tuple(dict.fromkeys([*held_out.errors, *found.errors])),
            found.complete,
        )

    def reference_statistics(self) -> dict[str, Statistics]:
        """Mean and covariance of the reference by metric, of those that have them; on rank 0, after `score`."""
        return self.against.statistics()

    def _paired(self, made: Stream) -> Stream:
        if not any("pairs" in one.metric.needs for one in self.seeing):
            return made
        try:
            return made.beside(None if isinstance(self.reference, Statistics) else self.reference)
        except ValueError as error:
            names = ", ".join(one.name for one in self.seeing if "pairs" in one.metric.needs)
            raise UserError(f"{names}: {error}") from error

    def _cautions(self, one: Named, made: Stream) -> list[str]:
        """What a metric wants said; the log says each sentence once."""
        alone = self._chosen(one) if "held_out" in one.metric.needs else made
        said = one.metric.cautions(alone.spec, len(alone), self.against.images_of(one.metric))
        said += self.against.cautions(one.metric)
        for sentence in said:
            if sentence not in self._said:
                log.warning("%s: %s", one.name, sentence)
            self._said.add(sentence)
        return said

    def _chosen(self, one: Named) -> Stream:
        """The held-out images of a metric that looks at them alone."""
        assert self.held_out is not None
        count = one.metric.held_out_images
        return self.held_out if count is None else self.held_out.some(count)

    def _total(self, made: Stream | None, alone: Sequence[Named]) -> int:
        """Images that this rank has before it."""
        streams = [made, self.reference if self.against.missing else None]
        streams += [self.reference] if self._modelled() else []
        streams += [self.held_out] if self.beside and self._scale is None else []
        streams += [self._chosen(one) for one in alone]
        lengths = [len(one) for one in streams if one is not None and not isinstance(one, Statistics)]
        return sum(len(numbers) for length in lengths for numbers in shares(length, self.world, self.batch_size))

    def _modelled(self) -> list[int]:
        """Places of the metrics that see the reference anew with each model."""
        needs = frozenset({"reference", "model"})
        return [place for place, one in enumerate(self.seeing) if needs <= one.metric.needs]

    def _generated(
        self, made: Stream, model: ScoredModel | None, on_shown: OnShown | None, done: Done, wanted: bool
    ) -> Found:
        """The metrics of the generated images."""
        seen, failed = copies(self.seeing), dict[int, str]()
        try:
            if places := self._modelled():
                assert self.reference is not None and not isinstance(self.reference, Statistics)
                first = self._pass([seen[place] for place in places], model)
                refused = first.run(self.reference, self.batch_size, real=True, done=done)
                failed = {places[at]: sentence for at, sentence in refused.items()}
            left = [place for place in range(len(seen)) if place not in failed]
            second = self._pass([seen[place] for place in left], model, on_shown, wanted)
            refused = second.run(made, self.batch_size, real=False, done=done)
            failed |= {left[at]: sentence for at, sentence in refused.items()}
        except UserError as error:
            return Found(errors=[str(error)], complete=False)
        return values_of(seen, self.world, self.against.images, failed)

    def _pass(
        self,
        metrics: Sequence[Named],
        model: ScoredModel | None = None,
        on_shown: OnShown | None = None,
        wanted: bool = False,
    ) -> Pass:
        return Pass(metrics, self.world, model, on_shown, wanted=wanted, stop=self.stop)

    def _scaled(self, done: Done) -> Found:
        """The held-out images in place of generated ones, for scale."""
        if self.held_out is None or not self.beside:
            return Found()
        seen = self._beside(self.held_out)
        try:
            failed = self._pass(seen).run(self.held_out, self.batch_size, real=False, done=done)
            found = values_of(seen, self.world, failed=failed)
        except UserError as error:
            found = Found(errors=[str(error)])
        for sentence in found.errors:
            log.warning("no value of the held-out images: %s", sentence)
        return found

    def _beside(self, held_out: Stream) -> list[Named]:
        """Copies of the metrics that score them; where their classes are others, prepared for those."""
        seen = copies(self.beside)
        if held_out.spec == self._accepted[0][0]:
            return seen
        for one in list(seen):
            if one.metric.needs:  # what it has seen of the reference would be lost
                continue
            try:
                one.metric.check(held_out.spec, len(held_out))
                one.metric.to(self.world.device)
            except ValueError as error:
                log.warning("no value of the held-out images: %s: %s", one.name, error)
                seen.remove(one)
        return seen

    def _alone(self, model: ScoredModel | None, done: Done) -> Found:
        """The metrics that look at held-out images alone."""
        seen, failed = copies(self.alone), dict[int, str]()
        for place, one in enumerate(seen):
            try:
                refused = self._pass([one], model).run(self._chosen(one), self.batch_size, real=True, done=done)
                failed |= {place: refused[0]} if refused else {}
            except UserError as error:
                failed[place] = str(error)
        return values_of(seen, self.world, self.against.images, failed)


def score(
    metrics: Sequence[Named],
    made: Stream,
    world: World,
    batch_size: int,
    *,
    reference: Stream | Statistics | None = None,
    held_out: Stream | None = None,
    model: Trained | None = None,
    on_shown: OnShown | None = None,
) -> Scored:
    """Score one set: see `Scoring`, which takes several."""
    scoring = Scoring(metrics, world, batch_size, reference=reference, held_out=held_out)
    return scoring.score(made, model=model, on_shown=on_shown)
