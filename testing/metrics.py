"""What any metric must hold to."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from ..core import DataSpec, FeatureMetric, Metric, generator
from .claims import called, cannot, hold, require
from .metric_trial import Trial, Values, accepted, merged

CLOSE = 1e-5  # relative: sums of features in float32 come out a little otherwise in another order


def check_metric(metric: Metric) -> None:
    """Hold a metric to the interface: every check below.

    Raises:
        AssertionError: With a sentence, at the first that fails.
    """
    hold(METRIC_CHECKS, metric)


def check_values(metric: Metric) -> None:
    """The values are finite floats by name, and the same for the same images."""
    trial = Trial(metric)
    once = trial.whole()
    require(once, f"{called(metric)}: compute() gives nothing")
    for name, value in once.items():
        plain = isinstance(name, str) and isinstance(value, float)
        require(plain, f"{called(metric)}: compute() is to give plain floats by name; got {name!r}: {value!r}")
        require(math.isfinite(value), f"{called(metric)}: {name} is {value}")
    again = trial.whole()
    require(once == again, f"{called(metric)} gives {again} of the images of which it gave {once}")


def check_ranks(metric: Metric) -> None:
    """Two ranks' states, reduced as they are declared, give what one rank with all the images gives."""
    trial = Trial(metric)
    halves = [trial.fed(slice(rank, None, 2), batch=7) for rank in (0, 1)]
    _close(metric, merged(*halves).compute(), trial.whole(), "two ranks with half of the images each give")


def check_order(metric: Metric) -> None:
    """The order in which images come does not matter; their index says which they are."""
    trial = Trial(metric)
    order = torch.randperm(trial.count, generator=generator(0, "metric", 1))
    shuffled = trial.fed(order, batch=13)
    _close(metric, merged(shuffled).compute(), trial.whole(), "in another order and other batches the images give")


def check_reset(metric: Metric) -> None:
    """After `reset` nothing is left of what was seen."""
    trial = Trial(metric)
    used = trial.fed(slice(0, trial.count // 2), batch=50)
    used.reset()
    trial.feed(used, slice(None), batch=50)
    _close(metric, used.compute(), trial.whole(), "after a reset the images give")


def check_compute(metric: Metric) -> None:
    """`compute` changes nothing: asked twice, or with more images in between, it goes on."""
    trial = Trial(metric)
    fed = trial.fed(slice(None), batch=50)
    first = fed.compute()
    second = fed.compute()
    require(first == second, f"{called(metric)}: compute() gives {first}, and {second} when asked again")


def check_empty(metric: Metric) -> None:
    """Without images it gives no number of its own invention: an error, or not-a-number."""
    empty = copy.deepcopy(metric)
    try:
        values = empty.compute()
    except ValueError as error:
        require(str(error), f"{called(metric)} refuses to compute without images, without a word")
        return
    invented = {name: value for name, value in values.items() if math.isfinite(value) and value != 0}
    require(not invented, f"{called(metric)} of no images is {invented}; raise a ValueError that says what is missing")


def check_refuses(metric: Metric) -> None:
    """What `check` accepts can be measured; what it does not is refused by a ValueError with a sentence."""
    spec, _ = accepted(metric)
    for wanted, images in ((spec, 1), (DataSpec((7, 5, 3)), 100)):
        try:
            metric.check(wanted, images)
        except ValueError as error:
            require(str(error), f"{called(metric)} refuses {images} image(s) of {wanted.shape} without a word")
            continue
        try:
            Trial(metric, wanted, images).whole()
        except (ValueError, RuntimeError) as error:
            require(False, f"{called(metric)}.check accepts {images} image(s) of {wanted.shape}, and then: {error}")


def check_protocol(metric: Metric) -> None:
    """What must be equal for two values to be compared is said in texts."""
    protocol = metric.protocol()
    texts = all(isinstance(one, str) for pair in protocol.items() for one in pair)
    require(texts, f"{called(metric)}: protocol() is to hold texts; got {protocol}")


def check_features(metric: Metric) -> None:
    """Features that are handed over, of more layers than it looks at, count as those that it asks for itself."""
    if not isinstance(metric, FeatureMetric):
        cannot(f"{called(metric)} looks at no features")
    trial = Trial(metric)
    given = copy.deepcopy(metric)
    trial.feed(given, slice(None), batch=50, share=True)
    _close(metric, given.compute(), trial.whole(), "with features handed over the images give")


def check_copies(metric: Metric) -> None:
    """A copy goes on by itself: held-out images are scored on one that has seen the reference."""
    trial = Trial(metric)
    for how in (copy.copy, copy.deepcopy):
        first = trial.fed(slice(None), batch=50)
        before = first.compute()
        trial.feed(how(first), slice(0, trial.count // 2), batch=50)
        require(first.compute() == before, f"{called(metric)} changes when a copy of it ({how.__name__}) sees images")


def check_reference_key(metric: Metric) -> None:
    """The states of a pass over the reference, by their key, are all that is to be kept of it."""
    key, trial = dict(metric.reference_key()), Trial(metric)
    texts = all(isinstance(one, str) for pair in key.items() for one in pair)
    require(texts, f"{called(metric)}: reference_key() is to hold texts; got {key}")
    if "reference" not in metric.needs or "model" in metric.needs:
        cannot(f"nothing is kept of what {called(metric)} sees")
    first, later = copy.deepcopy(metric), copy.deepcopy(metric)
    trial.feed_reference(first, slice(None), batch=50)
    after = dict(first.reference_key())
    require(after == key, f"{called(metric)}: the reference's key is {key}, and {after} when it was seen")
    for name, how in first.states().items():
        for state in [name, f"{name}_index"] if how == "cat" else [name]:
            setattr(later, state, getattr(first, state))
    trial.feed_made(later, slice(None), batch=50)
    _close(metric, later.compute(), trial.whole(), "with the states of the reference kept from before the images give")


def check_cautions(metric: Metric) -> None:
    """What a reader should know is said in sentences."""
    spec, count = accepted(metric)
    for images, reference in ((count, None), (count, 1), (100 * count, 100 * count)):
        said = metric.cautions(spec, images, reference)
        fine = isinstance(said, list) and all(isinstance(one, str) and " " in one.strip() for one in said)
        require(fine, f"{called(metric)}: cautions() is to give sentences; got {said!r} of {images} images")


def check_pictures(metric: Metric) -> None:
    """Pictures are uint8 (1 or 3, H, W) by name, of reduced states, and ask for images that the reference has."""
    trial = Trial(metric)

    def real(numbers: Tensor) -> Tensor:
        count, whole = len(trial.real), not numbers.is_floating_point()
        fine = whole and numbers.dim() == 1 and bool(((numbers >= 0) & (numbers < count)).all())
        require(fine, f"{called(metric)}: pictures() asks for the real images {numbers}; there are 0 to {count - 1}")
        return trial.real[numbers]

    seen = merged(*(trial.fed(slice(rank, None, 2), batch=7) for rank in (0, 1)))
    before = seen.compute()
    for name, picture in seen.pictures(real).items():
        fine = picture.dtype == torch.uint8 and picture.dim() == 3 and picture.shape[0] in (1, 3)
        told = f"{picture.dtype} {tuple(picture.shape)}"
        require(fine, f"{called(metric)}: the picture {name} is to be uint8 (1 or 3, H, W); got {told}")
    require(seen.compute() == before, f"{called(metric)}: pictures() changes what compute() gives")


METRIC_CHECKS = (
    check_values,
    check_ranks,
    check_order,
    check_reset,
    check_compute,
    check_empty,
    check_refuses,
    check_protocol,
    check_features,
    check_copies,
    check_reference_key,
    check_cautions,
    check_pictures,
)


def _close(metric: Metric, got: Values, want: Values, what: str) -> None:
    near = got.keys() == want.keys() and all(math.isclose(got[k], want[k], rel_tol=CLOSE, abs_tol=1e-9) for k in want)
    require(near, f"{called(metric)}: {what} {got}, all at once {want}")
