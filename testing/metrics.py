"""What any metric must hold to."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor

from ..core import Cond, DataSpec, Denoiser, Metric, Pixels, ScoredModel, generator
from ..core.predictions import v
from .claims import called, cannot, hold, require
from .features import SHAPES
from .schedules import Arc

IMAGES = (160, 80, 400)  # of which the first number that the metric accepts is generated
FEW = 12  # tried first for a metric that asks the model, as often as it likes, of every image
REAL_EXTRA = 37
CLASSES = ("a", "b", "c")
CLOSE = 1e-5  # relative: sums of features in float32 come out a little otherwise in another order

Values = dict[str, float]


def check_metric(metric: Metric) -> None:
    """Hold a metric to the interface: every check below.

    Raises:
        AssertionError: With a sentence, at the first that fails.
    """
    hold(METRIC_CHECKS, metric)


def check_values(metric: Metric) -> None:
    """The values are finite floats by name, and the same for the same images."""
    trial = _Trial(metric)
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
    trial = _Trial(metric)
    halves = [trial.fed(slice(rank, None, 2), batch=7) for rank in (0, 1)]
    _close(metric, merged(*halves).compute(), trial.whole(), "two ranks with half of the images each give")


def check_order(metric: Metric) -> None:
    """The order in which images come does not matter; their index says which they are."""
    trial = _Trial(metric)
    order = torch.randperm(trial.count, generator=generator(0, "metric", 1))
    shuffled = trial.fed(order, batch=13)
    _close(metric, merged(shuffled).compute(), trial.whole(), "in another order and other batches the images give")


def check_reset(metric: Metric) -> None:
    """After `reset` nothing is left of what was seen."""
    trial = _Trial(metric)
    used = trial.fed(slice(0, trial.count // 2), batch=50)
    used.reset()
    trial.feed(used, slice(None), batch=50)
    _close(metric, used.compute(), trial.whole(), "after a reset the images give")


def check_compute(metric: Metric) -> None:
    """`compute` changes nothing: asked twice, or with more images in between, it goes on."""
    trial = _Trial(metric)
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
    spec, _ = _accepted(metric)
    for wanted, images in ((spec, 1), (DataSpec((7, 5, 3)), 100)):
        try:
            metric.check(wanted, images)
        except ValueError as error:
            require(str(error), f"{called(metric)} refuses {images} image(s) of {wanted.shape} without a word")
            continue
        try:
            _Trial(metric, wanted, images).whole()
        except (ValueError, RuntimeError) as error:
            require(False, f"{called(metric)}.check accepts {images} image(s) of {wanted.shape}, and then: {error}")


def check_protocol(metric: Metric) -> None:
    """What must be equal for two values to be compared is said in texts."""
    protocol = metric.protocol()
    texts = all(isinstance(one, str) for pair in protocol.items() for one in pair)
    require(texts, f"{called(metric)}: protocol() is to hold texts; got {protocol}")


METRIC_CHECKS = (
    check_values,
    check_ranks,
    check_order,
    check_reset,
    check_compute,
    check_empty,
    check_refuses,
    check_protocol,
)


def merged(*ranks: Metric) -> Metric:
    """What the runner makes of the metrics of several ranks: each state reduced as it is declared."""
    out = copy.copy(ranks[0])
    for name, how in out.states().items():
        held = [getattr(rank, name) for rank in ranks]
        if how == "cat":
            index = torch.cat([getattr(rank, f"{name}_index") for rank in ranks])
            order = index.argsort(stable=True)
            setattr(out, name, torch.cat(held)[order])
            setattr(out, f"{name}_index", index[order])
        else:
            stacked = torch.stack(held)
            reduced = {"sum": stacked.sum(0), "min": stacked.amin(0), "max": stacked.amax(0)}
            setattr(out, name, reduced[how])
    return out


class _Trial:
    """Images, real and generated, to show to fresh copies of a metric.

    Args:
        metric: Never updated itself.
        spec: Of the images; with ``count`` left out, the first that the metric accepts.
        count: Number of generated ones.
    """

    def __init__(self, metric: Metric, spec: DataSpec | None = None, count: int | None = None) -> None:
        self.metric = metric
        if spec is None or count is None:
            spec, count = _accepted(metric)
        self.count = count
        random = generator(0, "metric", 0)
        self.made = torch.randint(256, (self.count, *spec.shape), generator=random, dtype=torch.uint8)
        real = torch.randint(40, 256, (self.count + REAL_EXTRA, *spec.shape), generator=random, dtype=torch.uint8)
        self.real, self.model = real, _model(DataSpec(spec.shape, CLASSES))

    def fed(self, rows: Any, batch: int) -> Metric:
        """A fresh copy that has seen some of either side."""
        fresh = copy.deepcopy(self.metric)
        self.feed(fresh, rows, batch)
        return fresh

    def feed(self, metric: Metric, rows: Any, batch: int) -> None:
        """Show some of either side to a metric: the rows of the generated, as many of the real and the rest.

        One that looks at held-out images sees those alone.
        """
        if "held_out" in metric.needs:
            return self._stream(metric, self.real, torch.arange(self.count)[rows], batch, real=True)
        if "reference" in metric.needs:
            everything = torch.arange(len(self.real))
            mine = everything[rows] if isinstance(rows, slice) else torch.cat([rows, everything[self.count :]])
            self._stream(metric, self.real, mine, batch, real=True)
        self._stream(metric, self.made, torch.arange(self.count)[rows], batch, real=False)

    def whole(self) -> Values:
        """The values of all images."""
        return self.fed(slice(None), batch=50).compute()

    def _stream(self, metric: Metric, images: Tensor, rows: Tensor, batch: int, real: bool) -> None:
        for index in torch.split(rows, batch):
            labels = index % len(CLASSES)
            later: dict[str, Any] = {"cond": {"class": labels}}
            if not real and "pairs" in metric.needs:
                later["paired"] = self.real[index]
            if "model" in metric.needs:
                later["model"] = self.model
            metric.update(images[index], real=real, labels=labels, index=index, **later)


def _accepted(metric: Metric) -> tuple[DataSpec, int]:
    """Images that the metric accepts, and how many."""
    refusal = ""
    for shape in SHAPES:
        for count in (FEW, *IMAGES) if "model" in metric.needs else IMAGES:
            try:
                metric.check(DataSpec(shape, CLASSES), count)
            except ValueError as error:
                refusal = str(error)
                continue
            return DataSpec(shape, CLASSES), count
    cannot(f"{called(metric)} accepts neither {IMAGES} images nor the shapes {SHAPES}: {refusal}")


def _model(spec: DataSpec) -> ScoredModel:
    """A network of pixels that says 0."""

    def network(x: Tensor, noise: Tensor, cond: Cond) -> Tensor:
        return torch.zeros_like(x)

    return ScoredModel(Denoiser(network, Arc(), v), Pixels(spec))


def _close(metric: Metric, got: Values, want: Values, what: str) -> None:
    near = got.keys() == want.keys() and all(math.isclose(got[k], want[k], rel_tol=CLOSE, abs_tol=1e-9) for k in want)
    require(near, f"{called(metric)}: {what} {got}, all at once {want}")
