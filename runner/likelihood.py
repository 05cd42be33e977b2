"""Bits per dimension of a data set's images, each with its own value: the metric `bits_per_dim`, fed a split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from ..core import Dataset, ScoredModel
from ..registry import UserError, build
from .console import TaskProgress
from .evaluation import Trained
from .evaluation.protocol import of_model
from .evaluation.streams import Real
from .feed import source_of
from .world import World

Split = Literal["held_out", "train"]


@dataclass(frozen=True)
class Integral:
    """How the likelihood is worked out.

    Attributes:
        probes: Random directions for the trace; 0 is the exact trace.
        draws: Places in each grey level's width.
        steps: Runge-Kutta steps.
        seed: Of the choice of images, and of their random numbers.
    """

    probes: int
    draws: int
    steps: int
    seed: int


@dataclass(frozen=True)
class Result:
    """What was measured.

    Attributes:
        numbers: Which images of the split, (N,).
        values: Bits per dimension of each, (N,).
        errors: Standard error of each by its draws and probes, (N,); nan where there is one of both.
        mean: The metric's values: of all images, with what is known of its error.
        protocol: All that must be equal for two values to be compared; the same as that of `dmf evaluate`.
    """

    numbers: list[int]
    values: list[float]
    errors: list[float]
    mean: Mapping[str, float]
    protocol: dict[str, str]

    def line(self) -> str:
        """For a person."""
        p, whole, own = self.protocol, self.mean.get("bits_per_dim_error"), self.mean.get("bits_per_dim_estimate_error")
        error = "" if whole is None else f" ± {whole:.3f}"
        of_it = "" if own is None else f", ± {own:.3f} of it from draws and probes"
        return (
            f"{self.mean['bits_per_dim']:.3f}{error} bits/dim ({p.get('held_out', p.get('train'))}, {p['draws']} "
            f"draws, {p['trace']}, {p['evaluations']} evaluations each{of_it})"
        )

    def as_dict(self) -> dict[str, Any]:
        """As JSON, which has no nan."""
        images = [
            {"image": k, "bits_per_dim": value, "error": None if math.isnan(error) else error}
            for k, value, error in zip(self.numbers, self.values, self.errors, strict=True)
        ]
        mean = {"value": self.mean["bits_per_dim"], "error": self.mean.get("bits_per_dim_error")}
        return {"bits_per_dim": {**mean, "protocol": self.protocol}, "images": images}


def measure(
    trained: Trained,
    dataset: Dataset,
    split: Split,
    name: str,
    count: int,
    integral: Integral,
    batch_size: int,
    device: torch.device,
) -> Result:
    """Measure ``count`` images of a split, or all where there are fewer.

    Args:
        trained: Whose density.
        dataset: The images of the split.
        split: Which it is, as the protocol has it.
        name: What it is called there; that of an evaluation, or the two could not be compared.
        count: Images at most, chosen by the integral's seed as `dmf evaluate` does by its own.
        integral: How.
        batch_size: Images at a time.
        device: Where.

    Raises:
        UserError: A codec whose pixels cannot be counted in bits.
    """
    metric = build("metric", "bits_per_dim", images=count, slice=batch_size, **asdict(integral)).to(device)
    model = ScoredModel(trained.model.denoiser(trained.network.to(device)), trained.model.codec)
    stream = Real(dataset, source_of(dataset, device), name, integral.seed).some(count)  # as dmf evaluate chooses
    with TaskProgress("likelihood", len(stream)) as bar:
        for images, cond, numbers, _ in stream.batches(World(0, 1, device), batch_size):
            try:
                metric.update(images, real=True, labels=cond.get("class"), index=numbers, cond=cond, model=model)
            except ValueError as error:
                raise UserError(f"likelihood: {error}") from error
            bar.step(len(images))
    which = stream.origin(metric.bits_index).tolist()
    rows = (metric.bits.tolist(), metric.errors.tolist())
    protocol = {
        **metric.protocol(),
        "images": str(len(stream)),
        **stream.protocol(split),
        **of_model(trained),
    }
    return Result(which, *rows, metric.compute(), protocol)
