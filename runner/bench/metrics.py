"""The contests of `dmf bench metrics`: features through the whole of scoring, statistics, memory of all against all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core import DataSpec, FeatureExtractor, InMemory, Metric
from ...registry import build, load
from ...testing.bench import metrics as made
from ...testing.bench.data import Claim, Conditions, Result, Row, over
from ...testing.bench.timing import in_turn, spread, timed
from ..evaluation.passes import Named, Pass
from ..evaluation.streams import Real
from ..feed import source_of
from ..host_memory import most_taken
from ..world import World

SHARE_PERCENT, MEMORY_GIB = 95.0, 8.0  # what is wanted
BATCH = 500  # rows of features at a time
SPEC = DataSpec((3, 32, 32))
Tick = Callable[[], None]


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        images: Images of a turn of extraction, by extractor.
        batches: Images at a time, by extractor.
        rows: Features on either side.
        dim: Their length.
    """

    images: dict[str, int]
    batches: dict[str, int]
    rows: int = 50_000
    dim: int = 2048


class Given(FeatureExtractor):
    """Features that are there already."""

    name = "given"

    def __init__(self, dim: int) -> None:
        self.layers = {"given": dim}

    def __call__(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """They are handed over; nobody asks."""
        raise NotImplementedError

    def protocol(self) -> dict[str, str]:
        """Its name."""
        return {"features": self.name}


def extraction(sizes: Sizes, under: Conditions, scratch: Path, tick: Tick) -> Result:
    """Features of images through the pass of an evaluation, beside the extractor alone on the same batches."""
    options = {
        "classifier": made.write_resnet(scratch / "resnet20.safetensors"),
        "inception": made.write_inception(scratch / "inception.pth"),
    }
    rows, claims = [], []
    for name, count in sizes.images.items():
        extractor: FeatureExtractor = build("features", name, **options[name]).to(under.device)
        batch = sizes.batches[name]
        bare, whole = _ways(extractor, count, batch, under.device)
        for step in (bare, whole):
            step()
        rates = [partial(_rate, step, count, under.device) for step in (bare, whole)]
        alone, scored = in_turn(rates, under.rounds, tick)
        about = f"`{name}` of random weights, batches of {batch}"
        rows.append(Row(about, {"alone, images/s": spread(alone), "in an evaluation, images/s": spread(scored)}))
        share = spread([100 * value for value in _ratios(scored, alone)])
        claims.append(
            Claim(f"`{name}`: the evaluation's rate of the extractor's own", share, " %", least=SHARE_PERCENT)
        )
    title = (
        "features of 3x32x32 images on the device, for `frechet` and `kernel` in one pass, beside the extractor alone"
    )
    return Result("extraction", title, rows, claims)


def statistics(sizes: Sizes, under: Conditions, scratch: Path, tick: Tick) -> Result:
    """Sums, covariances and the root of their product, beside torch-fidelity's on the same features."""
    sides = [torch.cat(list(_batches(sizes, side))) for side in (0, 1)]
    found: dict[str, float] = {}

    def ours() -> None:
        found["ours"] = next(iter(_fed("frechet", sides, sizes, under.device).compute().values()))

    def theirs() -> None:
        found["theirs"] = made.their_distance(*sides)

    mine, other = in_turn([partial(timed, step, under.device) for step in (ours, theirs)], under.rounds, tick)
    rows = [
        Row(f"`frechet`, batches of {BATCH} as they come", {"s": spread(mine)}),
        Row("torch-fidelity, on the CPU, all features at once", {"s": spread(other)}),
    ]
    apart = abs(found["ours"] - found["theirs"]) / found["theirs"]
    claims = [
        Claim("their time over ours", over(other, mine), least=1.0),
        Claim("relative difference of the two distances", spread([apart]), most=1e-6),
    ]
    return Result("statistics", f"the distance of two sets of {_size(sizes)}", rows, claims)


def memory(sizes: Sizes, under: Conditions, scratch: Path, tick: Tick) -> Result:
    """Time and peak memory of the metrics that keep all features, each in a process of its own."""
    rows, claims = [], []
    for name in ("kernel", "precision_recall", "density_coverage"):
        work = partial(peak, name, sizes, str(under.device), torch.get_num_threads())
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            seconds, gib, before = pool.submit(work).result()
        tick()
        values = {"s": seconds, "peak, GiB": gib, "of that before it began, GiB": before}
        rows.append(Row(f"`{name}`", {heading: spread([value]) for heading, value in values.items()}))
        claims.append(Claim(f"`{name}`: peak memory", spread([gib]), " GiB", most=MEMORY_GIB))
    return Result("memory", f"values of two sets of {_size(sizes)}, each in a process of its own", rows, claims)


def peak(name: str, sizes: Sizes, device: str, threads: int) -> tuple[float, float, float]:
    """Seconds of `compute`, the most memory of this process in GiB, and that before features were there.

    On a GPU it is the GPU's memory.
    """
    torch.set_num_threads(threads)
    where = torch.device(device)
    metric = _metric(name, sizes.dim, where)
    before = _peak_gib(where)
    for side in (0, 1):
        for start, rows in enumerate(_batches(sizes, side)):
            _feed(metric, rows.to(where), bool(side), start)
    seconds = timed(lambda: _nothing(metric.compute()), where)
    return seconds, _peak_gib(where), before


def _ways(extractor: FeatureExtractor, count: int, batch: int, device: torch.device) -> tuple[Tick, Tick]:
    """The extractor alone, and a pass of an evaluation, over the same batches."""
    images = torch.randint(256, (count, *SPEC.shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    dataset, world = InMemory(SPEC, images, {}), World(0, 1, device)
    stream = Real(dataset, source_of(dataset, device), "random images")
    layers = (next(iter(extractor.layers)),)
    held = torch.split(images.to(device), batch)

    def bare() -> None:
        with torch.no_grad():
            for some in held:
                extractor(some, layers)

    def whole() -> None:
        named = [Named(name, load("metric", name)(features=extractor).to(device)) for name in ("frechet", "kernel")]
        Pass(named, world).run(stream, batch, real=False, done=_nothing)

    return bare, whole


def _rate(step: Tick, count: int, device: torch.device) -> float:
    return count / timed(step, device)


def _ratios(first: Sequence[float], second: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(first, second, strict=True)]


def _batches(sizes: Sizes, side: int) -> list[Tensor]:
    starts = range(0, sizes.rows, BATCH)
    return [made.features(start, min(BATCH, sizes.rows - start), sizes.dim, side) for start in starts]


def _metric(name: str, dim: int, device: torch.device) -> Metric:
    metric: Metric = load("metric", name)(features=Given(dim))
    return metric.to(device)


def _fed(name: str, sides: Sequence[Tensor], sizes: Sizes, device: torch.device) -> Metric:
    metric = _metric(name, sizes.dim, device)
    for side, rows in enumerate(sides):
        for start, some in enumerate(torch.split(rows, BATCH)):
            _feed(metric, some.to(device), bool(side), start)
    return metric


def _feed(metric: Metric, rows: Tensor, real: bool, batch: int) -> None:
    """A batch of features as scoring hands it over; there are no images."""
    index = torch.arange(batch * BATCH, batch * BATCH + len(rows))
    metric.update(rows, real=real, index=index, features={"given": rows})


def _peak_gib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return most_taken() / 2**30


def _size(sizes: Sizes) -> str:
    return f"{sizes.rows:,} x {sizes.dim} features, float32"


def _nothing(value: Any) -> None:
    return None
