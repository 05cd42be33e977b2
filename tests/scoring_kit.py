"""What tests of scoring have in common: sets of images, metrics that show what they saw."""

from typing import Any

import torch
from torch import Tensor

from dmf.core import DataSpec, FeatureExtractor, InMemory, Metric
from dmf.registry import UserError
from dmf.runner.evaluation import Named, Scored, Scoring
from dmf.runner.evaluation.streams import Real
from dmf.runner.feed import source_of
from dmf.runner.world import World

ALONE = World(0, 1, torch.device("cpu"))
SPEC = DataSpec((1, 8, 8), ("a", "b", "c"))


def images(count: int, seed: int, low: int = 0, spec: DataSpec = SPEC) -> InMemory:
    """A set of noise, its classes in turn."""
    random = torch.Generator().manual_seed(seed)
    pixels = torch.randint(low, 256, (count, *spec.shape), generator=random, dtype=torch.uint8)
    return InMemory(spec, pixels, {"class": torch.arange(count) % 3} if spec.classes else {})


def stream(data: InMemory, name: str = "noise") -> Real:
    return Real(data, source_of(data, torch.device("cpu")), name)


def scored(metrics: dict[str, Metric], made: InMemory, real: InMemory | None = None, **more: Any) -> Scored:
    """Score one set beside another, with names for both, in one batch of 16 after the other."""
    world, batch_size = more.pop("world", ALONE), more.pop("batch_size", 16)
    reference = None if real is None else stream(real, "real noise")
    held_out = more.pop("held_out", None)
    beside = None if held_out is None else stream(held_out, "held-out noise")
    named = [Named(name, metric) for name, metric in metrics.items()]
    scoring = Scoring(named, world, batch_size, reference=reference, held_out=beside)
    return scoring.score(stream(made, "made noise"), **more)


def whole(found: Scored) -> Scored:
    """Itself.

    Raises:
        UserError: Something is missing.
    """
    if found.errors:
        raise UserError("; ".join(found.errors))
    return found


class Counting(FeatureExtractor):
    """Two layers of a fixed random projection, in float32; counts what it is asked for.

    Args:
        spec: Of the images.
    """

    name = "counting"

    def __init__(self, spec: DataSpec = SPEC) -> None:
        self.layers = {"first": 5, "second": 3}
        self.calls: list[tuple[int, tuple[str, ...]]] = []
        size = int(torch.tensor(spec.shape).prod())
        random = torch.Generator().manual_seed(0)
        self.weights = {name: torch.randn(size, dim, generator=random) for name, dim in self.layers.items()}

    def __call__(self, images: Tensor, layers: Any) -> dict[str, Tensor]:
        self.calls.append((len(images), tuple(layers)))
        x = images.flatten(1).float() / 255
        return {layer: (x @ self.weights[layer]).tanh() for layer in layers}

    def protocol(self) -> dict[str, str]:
        return {"features": self.name, "resize": "none"}


class Everything(Metric):
    """One state of each kind, of generated images."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("n", torch.zeros((), dtype=torch.int64), "sum")
        self.add_state("low", torch.full((), 255.0), "min")
        self.add_state("high", torch.zeros(()), "max")
        self.add_state("rows", torch.zeros(0, 2), "cat")

    def update(self, images: Tensor, **given: Any) -> None:
        means = images.float().flatten(1).mean(1)
        self.n = self.n + len(images)
        self.low, self.high = torch.minimum(self.low, means.min()), torch.maximum(self.high, means.max())
        self.append("rows", torch.stack([means, given["index"].float()], 1), given["index"])

    def compute(self) -> dict[str, float]:
        rows: Tensor = self.rows  # type: ignore[attr-defined]
        order = torch.arange(len(rows), dtype=torch.float32)
        return {
            "n": float(self.n),
            "low": float(self.low),
            "high": float(self.high),
            "ordered": float((rows[:, 1] == order).all()),
            "weighted": float((rows[:, 0] * order).sum()),
        }
