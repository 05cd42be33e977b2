"""Which way values are better, and which of several is the best."""

from __future__ import annotations

from collections.abc import Mapping

from ...core import Metric, Way

ABOUT = ("_sd", "_error", "_classes")  # how names end of what only says something about a value


def ways(metrics: Mapping[str, Metric]) -> dict[str, Way]:
    """Which way each value is better; one that is not better either way is left out.

    Args:
        metrics: The metric that gave a value, by the value's name.
    """
    found = {name: _way(metric, name) for name, metric in metrics.items()}
    return {name: way for name, way in found.items() if way is not None}


def best(values: Mapping[str, float | None], way: Way) -> str | None:
    """The key of the best value, the first of equal ones; None without any.

    Args:
        values: By any key; None where there is none.
        way: Which way they are better.
    """
    there = {key: value for key, value in values.items() if value is not None}
    if not there:
        return None
    return (min if way == "lower" else max)(there, key=lambda key: there[key])


def _way(metric: Metric, name: str) -> Way | None:
    """That of the longest beginning that fits."""
    fitting = [start for start in metric.better if name.startswith(start)]
    return metric.better[max(fitting, key=len)] if fitting and not name.endswith(ABOUT) else None
