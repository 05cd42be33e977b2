"""What a metric is held against: the statistics that a reference is published with, or its images.

The reference batches of Dhariwal & Nichol 2021 (arXiv 2105.05233) hold both: mean and covariance of a whole data set,
which their FID and sFID are of, and 10,000 of its images, which their precision and recall are of.
"""

from __future__ import annotations

import copy
import hashlib

from ...core import FeatureMetric, Metric, Statistics
from .streams import Stream

Reference = Stream | Statistics | None


def given(metric: Metric, reference: Reference) -> Statistics | None:
    """What a metric takes in place of the reference's images; None where it sees those.

    Args:
        metric: Accepted, or about to be.
        reference: Images, statistics or both.
    """
    known = reference if reference is None or isinstance(reference, Statistics) else reference.statistics
    if known is None or "reference" not in metric.needs:
        return None
    of_layer = known.of(metric.layer) if isinstance(metric, FeatureMetric) else known
    return of_layer if known is reference or _takes(metric, of_layer) else None


def images_of(metric: Metric, reference: Reference) -> int | None:
    """How many images a metric is held against; None where that is not known, or there is no reference."""
    found = given(metric, reference)
    if found is not None or reference is None or isinstance(reference, Statistics):
        return None if found is None else found.images
    return len(reference)


def protocol(metric: Metric, reference: Reference) -> dict[str, str]:
    """What must be equal for two values of a metric to be of the same reference."""
    found = given(metric, reference)
    if found is not None:
        return _of_statistics(found)
    images = None if isinstance(reference, Statistics) or "reference" not in metric.needs else reference
    return {} if images is None else images.protocol("reference")


def whole_protocol(reference: Reference) -> dict[str, str]:
    """What must be equal for two references to be the same to any metric."""
    if reference is None or isinstance(reference, Statistics):
        return {} if reference is None else _of_statistics(reference)
    found = reference.protocol("reference")
    if reference.statistics is not None:
        for known in (reference.statistics, *reference.statistics.layers.values()):
            found[f"{known.name}.fingerprint"] = _of_statistics(known)["reference.fingerprint"]
    return found


def cautions(metric: Metric, reference: Reference) -> list[str]:
    """What is not known of the statistics that a metric takes, or why it takes none."""
    found = given(metric, reference)
    if found is not None:
        told = f"{found.name} does not say of which features it is; only their number was checked"
        return [] if found.about else [told]
    if reference is None or isinstance(reference, Statistics) or reference.statistics is None:
        return []
    if "reference" not in metric.needs or type(metric).take_reference is Metric.take_reference:
        return []  # nobody expects it of these
    other = f"mean and covariance in {reference.name} are of other features"
    return [f"{other}; what it is held against are its {len(reference)} images"]


def _takes(metric: Metric, statistics: Statistics) -> bool:
    if "model" in metric.needs:  # it sees the reference anew with each model
        return False
    try:
        copy.copy(metric).take_reference(statistics)
    except ValueError:
        return False
    return True


def _of_statistics(known: Statistics) -> dict[str, str]:
    digest = hashlib.sha256()
    for value in (known.mu, known.sigma):
        digest.update(value.contiguous().numpy().tobytes())
    count = "an unknown number of" if known.images is None else known.images
    return {
        "reference": f"{known.name}, statistics of {count} images",
        "reference.fingerprint": digest.hexdigest(),
    }
