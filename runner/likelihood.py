"""Bits per dimension of a data set's images, a batch at a time, each image's random numbers its own."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

from .. import __version__
from ..core import Dataset, ImageStreams, bind, bits_per_dim
from ..registry import UserError
from .console import TaskProgress
from .evaluation import Trained
from .feed import image_numbers, source_of


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
        protocol: All that must be equal for two values to be compared.
    """

    numbers: list[int]
    values: list[float]
    errors: list[float]
    protocol: dict[str, str]

    @property
    def mean(self) -> float:
        """Over images."""
        return math.fsum(self.values) / len(self.values)

    @property
    def error(self) -> float:
        """Standard error of the mean: over images, which holds that of draws and probes; of the one image's own."""
        if len(self.values) == 1:
            return self.errors[0]
        return float(torch.tensor(self.values, dtype=torch.float64).std()) / math.sqrt(len(self.values))

    @property
    def estimate_error(self) -> float:
        """What of it comes from draws and probes: the error of the mean over these very images."""
        return math.sqrt(math.fsum(e * e for e in self.errors)) / len(self.errors)

    def line(self) -> str:
        """For a person."""
        p = self.protocol
        error = "" if math.isnan(self.error) else f" ± {self.error:.3f}"
        of_it = "" if math.isnan(self.estimate_error) else f", ± {self.estimate_error:.3f} of it from draws and probes"
        return (
            f"{self.mean:.3f}{error} bits/dim ({len(self.values)} images of {p['split']}, {p['draws']} draws, "
            f"{p['trace']}, {p['evaluations']} evaluations each{of_it})"
        )

    def as_dict(self) -> dict[str, Any]:
        """As JSON, which has no nan."""
        images = [
            {"image": k, "bits_per_dim": value, "error": None if math.isnan(error) else error}
            for k, value, error in zip(self.numbers, self.values, self.errors, strict=True)
        ]
        error = None if math.isnan(self.error) else self.error
        return {"bits_per_dim": {"value": self.mean, "error": error, "protocol": self.protocol}, "images": images}


def measure(
    trained: Trained,
    dataset: Dataset,
    split: str,
    count: int,
    integral: Integral,
    batch_size: int,
    device: torch.device,
) -> Result:
    """Measure ``count`` images of a split, or all where there are fewer.

    Raises:
        UserError: A codec whose pixels cannot be counted in bits.
    """
    network = trained.network.to(device).eval().requires_grad_(False)
    denoiser = trained.model.denoiser(network)
    codec, schedule, spec = trained.model.codec, trained.model.schedule, trained.model.codec.spec
    numbers = image_numbers(integral.seed, len(dataset), 0, min(count, len(dataset)))
    source = source_of(dataset, device)
    values, errors = [], []
    with TaskProgress("likelihood", len(numbers)) as bar:
        for start in range(0, len(numbers), batch_size):
            part = numbers[start : start + batch_size]
            images, cond = source.take(part)
            streams = ImageStreams(integral.seed, part.tolist(), spec.shape, device)
            how = (integral.probes, integral.draws, integral.steps)
            try:
                bits = bits_per_dim(bind(denoiser, cond, spec), images, codec, schedule, streams, *how)
            except ValueError as error:
                raise UserError(f"likelihood: {error}") from error
            values.append(bits.per_image)
            errors.append(bits.error)
            bar.step(len(part))
    per_image, error_each = (torch.cat(rows).tolist() for rows in (values, errors))
    return Result(numbers.tolist(), per_image, error_each, _protocol(trained, dataset, split, integral))


def _protocol(trained: Trained, dataset: Dataset, split: str, integral: Integral) -> dict[str, str]:
    given = sorted(name for name, one in trained.model.codec.spec.cond.items() if not one.neutral)
    noisiest, cleanest = (trained.model.schedule.at(t) for t in trained.model.schedule.ends())
    return {
        "split": split,
        "data.fingerprint": dataset.fingerprint(),
        "given": ", ".join(given) or "nothing",  # ln p(x | class), where there is one
        "trace": f"{integral.probes} probes" if integral.probes else "exact trace",
        "evaluations": str(4 * integral.steps * integral.draws),
        "cleanest sigma / alpha": f"{float(cleanest.ratio):.4g}",
        "noisiest sigma / alpha": f"{float(noisiest.ratio):.4g}",
        "weights": trained.weights,
        "trained_steps": str(trained.step),
        **{name: str(value) for name, value in asdict(integral).items()},
        "dmf": __version__,
    }
