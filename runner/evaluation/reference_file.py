"""The reference's mean and covariance, written for the next evaluation and for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...core import FeatureMetric, Metric, Statistics
from ...registry import UserError
from ..image_sets.arrays import write_statistics
from .passes import Named
from .scoring import Scoring

ADD = "add frechet or fid to the metrics"


def check_written(metrics: Sequence[Named]) -> None:
    """Accept metrics of which one file of statistics can be had.

    Raises:
        UserError: None of them has any, or they are of different features.
    """
    able = [one for one in metrics if type(one.metric).reference_statistics is not Metric.reference_statistics]
    if not able:
        names = ", ".join(one.name for one in metrics)
        raise UserError(f"--write-reference: mean and covariance are not what {names} keeps of a reference; {ADD}")
    kinds = [FeatureMetric.protocol(metric) if isinstance(metric, FeatureMetric) else {} for _, metric, _ in able]
    if any(kind != kinds[0] for kind in kinds):
        names = ", ".join(one.name for one in able)
        raise UserError(
            f"--write-reference: one file is of one kind of features, and {names} look at several; name one"
        )


def write_reference(path: Path, scoring: Scoring) -> Statistics:
    """Write what the metrics have kept of the reference; on rank 0, after the scoring."""
    name, found = next(iter(scoring.reference_statistics().items()))
    metric = next(one.metric for one in scoring.metrics if one.name == name)
    write_statistics(path, found, scoring.against.protocol(metric))
    return found
