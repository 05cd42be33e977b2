"""Results of what metrics found: each value with the protocol that it is of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from .against import Against
from .origins import libraries
from .passes import Named
from .protocol import computed, of_model
from .results import Results
from .streams import Stream
from .trained import Trained
from .values import Found

Cautions = Callable[[Named], Sequence[str]]


def of_generated(
    found: Found,
    metrics: Sequence[Named],
    made: Stream,
    against: Against,
    held_out: tuple[Found | None, Stream | None],
    cautions: Cautions,
) -> Results:
    """Of generated images; on rank 0, which alone asks for fingerprints.

    Args:
        found: Of the metrics.
        metrics: Those that saw the images.
        made: The images.
        against: What they are compared with.
        held_out: What the same metrics find of held-out images, and those, where there are any.
        cautions: What each metric wants said.
    """
    results: Results = {}
    scale, real = held_out
    for name, (value, place) in found.values.items():
        one = metrics[place]
        compared = against.protocol(one.metric)
        # a metric that looks at fewer says so
        protocol = {"images": str(len(made)), **_measured(one, found.protocols[place], against.world.device)}
        results[name] = _result(value, {**protocol, **compared, **made.protocol("generated")}, cautions(one))
        if scale is not None and real is not None and name in scale.values:
            results[name]["held_out"] = {"value": scale.values[name][0], "images": len(real)}
    return results


def of_held_out(
    found: Found,
    metrics: Sequence[Named],
    chosen: Callable[[Named], Stream],
    model: Trained | None,
    device: torch.device,
    cautions: Cautions,
) -> Results:
    """Of the held-out images alone: nothing of them depends on how images are made; on rank 0.

    Args:
        found: Of the metrics.
        metrics: Those that look at nothing else.
        chosen: The images of each.
        model: What was asked.
        device: Where it was computed.
        cautions: What each metric wants said.
    """
    results: Results = {}
    for name, (value, place) in found.values.items():
        one = metrics[place]
        stream = chosen(one)
        own = {**_measured(one, found.protocols[place], device), "images": str(len(stream))}
        own |= stream.protocol("held_out")
        results[name] = _result(value, {**own, **(of_model(model) if model is not None else {})}, cautions(one))
    return results


def _measured(one: Named, protocol: dict[str, str], device: torch.device) -> dict[str, str]:
    """A metric's own protocol, with the code and the arithmetic that its values come of."""
    return {**protocol, **libraries(one.metric), **computed(device)}


def _result(value: float, protocol: dict[str, str], cautions: Sequence[str]) -> dict[str, Any]:
    return {"value": value, "protocol": protocol, **({"cautions": list(cautions)} if cautions else {})}
