"""Scoring: generated images, the reference and held-out images stream through every metric, on every rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from ...core import DataSpec, Metric, Statistics
from ..world import World
from .results import Results
from .streams import Shown, Stream
from .trained import Trained

OnShown = Callable[[Shown], None]


class Named(NamedTuple):
    """A metric.

    Attributes:
        name: What it is called, by a recipe and in messages.
        metric: It, as built.
    """

    name: str
    metric: Metric


@dataclass(frozen=True)
class Scored:
    """What an evaluation gives.

    Attributes:
        results: By the name of the value; on every rank.
        pictures: uint8 (C, H, W) by name; on rank 0, elsewhere empty.
        cautions: What a reader of the values should know, each sentence once; on every rank.
    """

    results: Results
    pictures: dict[str, Tensor]
    cautions: list[str]


class Scoring:
    """Metrics, what they are measured against, and what they have seen of it: to score one set after the other.

    The reference is read once, when the first set is scored; the held-out images likewise.

    Args:
        metrics: Them; metrics of equal extractors share one from here on.
        world: The ranks.
        batch_size: Images at a time on each rank. The batches are the same on any number of ranks.
        reference: What is compared with: images, or statistics alone.
        held_out: Real images that are scored too, for scale, and those of metrics that look at them alone.
    """

    def __init__(
        self,
        metrics: Sequence[Named],
        world: World,
        batch_size: int,
        *,
        reference: Stream | Statistics | None = None,
        held_out: Stream | None = None,
    ) -> None:
        raise NotImplementedError

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
        raise NotImplementedError

    def score(self, made: Stream, *, model: Trained | None = None, on_shown: OnShown | None = None) -> Scored:
        """Score a set; may be called again, with another.

        Args:
            made: The generated images.
            model: What made them, for metrics that ask for it.
            on_shown: Gets each batch of them, on the rank that has it.

        Raises:
            UserError: A metric cannot be had of what was seen, on every rank.
        """
        raise NotImplementedError

    def reference_statistics(self) -> dict[str, Statistics]:
        """Mean and covariance of the reference by feature name, of the metrics that have them; on rank 0."""
        raise NotImplementedError


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
