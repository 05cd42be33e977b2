"""What can be known to be wrong before the long work."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence

from ...core import Codec, DataSpec, Metric, Statistics
from ...core.features import probe
from ...registry import UserError
from ..image_sets.named import check_same
from .origins import libraries
from .passes import Named, layers_of
from .published import given, images_of
from .streams import Stream

WAYS = {
    "reference": "there is none; give one",
    "model": "there are only images; score a run",
    "held_out": "there are none; take a data set that holds some out",
}


def check_metrics(
    metrics: Sequence[Named],
    spec: DataSpec,
    name: str,
    images: int,
    *,
    reference: Stream | Statistics | None,
    held_out: Stream | None,
    model: bool,
) -> None:
    """Accept metrics of what there is; each is asked once, and may prepare itself.

    Args:
        metrics: Them, on the CPU.
        spec: Of the generated images, in pixels.
        name: What a message calls those.
        images: Their number.
        reference: What is compared with.
        held_out: Real images to score beside.
        model: Whether there is one.

    Raises:
        UserError: One cannot be had.
    """
    for other in (reference, held_out):
        if other is not None and not isinstance(other, Statistics):
            check_same(spec, other.spec, (name, other.name))
    _check_names(metrics)
    for one in metrics:
        _check_needs(one, reference, held_out, model)
        if "held_out" in one.metric.needs and held_out is not None:
            images_seen = len(held_out) if one.metric.held_out_images is None else one.metric.held_out_images
        else:
            images_seen = images
        try:
            one.metric.check(spec, images_seen)
            libraries(one.metric)
            if isinstance(reference, Statistics) and (known := given(one.metric, reference)) is not None:
                copy.copy(one.metric).take_reference(known)
        except ValueError as error:
            raise UserError(f"{one.name}: {error}") from error


def check_model(metrics: Sequence[Named], codec: Codec) -> None:
    """Accept the metrics that ask the model.

    Args:
        metrics: All of an evaluation.
        codec: The model's.

    Raises:
        UserError: One cannot be had of it.
    """
    for name, metric, _ in metrics:
        if "model" in metric.needs:
            try:
                metric.check_model(codec)
            except ValueError as error:
                raise UserError(f"{name}: {error}") from error


def check_extractors(metrics: Sequence[Named], spec: DataSpec) -> None:
    """Have every extractor look at two images of ``spec``; on the CPU.

    Raises:
        UserError: It does not give what it says.
    """
    for extractor, layers in layers_of(metrics):
        try:
            probe(extractor, spec, layers)
        except ValueError as error:
            raise UserError(str(error)) from error


def check_needs(name: str, needs: Collection[str], given: Mapping[str, bool]) -> None:
    """Accept a metric of what is given; a class says as much as an object.

    Args:
        name: The metric's.
        needs: As in `Metric.needs`.
        given: What is known to be there, or not to be.

    Raises:
        UserError: Something that it needs is not there.
    """
    for need, there in given.items():
        if need in needs and not there:
            what = "held-out images" if need == "held_out" else f"a {need}"
            raise UserError(f"{name} needs {what}, and {WAYS[need]}, or leave {name} out")


def _check_needs(one: Named, reference: Stream | Statistics | None, held_out: Stream | None, model: bool) -> None:
    name, metric, _ = one
    there = {"reference": reference is not None, "model": model, "held_out": held_out is not None}
    check_needs(name, metric.needs, there)
    if "reference" not in metric.needs or reference is None:
        return
    count = images_of(metric, reference)
    if count is not None and count < metric.least_reference:
        raise UserError(
            f"{name} needs a reference of at least {metric.least_reference} images, and {reference.name} has {count}; "
            f"add images to it, or leave {name} out"
        )


def _check_names(metrics: Sequence[Named]) -> None:
    """Refuse what would surely give two values one name; what else does is found when the names are known."""
    for i, (name, metric, _) in enumerate(metrics):
        for other in metrics[:i]:
            if _same_names(metric, other.metric):
                raise UserError(
                    f"{name} is there twice: two metrics would give values of the same names; leave one of them out"
                )


def _same_names(a: Metric, b: Metric) -> bool:
    if type(a) is not type(b):
        return False
    apart = a.told_apart_by()
    return a.protocol() == b.protocol() if apart is None else apart == b.told_apart_by()
