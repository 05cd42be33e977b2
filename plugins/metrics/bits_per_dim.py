"""Bits per dimension of images that the model was not trained on: what a number of such an image costs under it.

Source: Song et al. 2021 (arXiv 2011.13456), section 4.3 and appendix D.2, for the density along the probability-flow
ODE; Theis et al. 2016 (arXiv 1511.01844), section 3.1, for that of grey levels. Cost: ``4 steps draws`` evaluations of
the network an image, each with a gradient a probe.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from ...core import Codec, Cond, ImageStreams, Metric, ScoredModel, Way, bind, bits_per_dim
from ...core.bits import check_affine


class BitsPerDim(Metric):
    """Mean bits per dimension of held-out images, unguided, an upper bound; ``_error`` is its standard error.

    It asks the model and makes no sample: sampler, steps and guidance of the recipe do not matter. Each image has its
    random numbers, by its number in the data set, whatever the batches and ranks. With several draws or probes
    ``_estimate_error`` says what of the error comes from them, and not from there being so few images.

    Args:
        images: Held-out images at most, chosen by the evaluation's seed.
        probes: Random directions for the trace, in each draw; 0 is the exact trace, as costly as an image has numbers.
        draws: Places in each grey level's width.
        steps: Steps of the integral.
        seed: Of places and probes.
        slice: Images that are worked on at a time; fewer need less memory. No image depends on it.
    """

    needs = frozenset({"held_out", "model"})
    better: ClassVar[Mapping[str, Way]] = {"bits_per_dim": "lower"}

    def __init__(
        self,
        *,
        images: Annotated[int, Ge(1)] = 100,
        probes: Annotated[int, Ge(0)] = 1,
        draws: Annotated[int, Ge(1)] = 1,
        steps: Annotated[int, Ge(1)] = 50,
        seed: Annotated[int, Ge(0)] = 0,
        slice: Annotated[int, Ge(1)] = 64,
    ) -> None:
        super().__init__()
        self.held_out_images = images
        self.probes, self.draws, self.steps, self.seed, self.slice = probes, draws, steps, seed, slice
        self.bits: Tensor
        self.errors: Tensor
        for name in ("bits", "errors"):
            self.add_state(name, torch.zeros(0, dtype=torch.float64), "cat")
        self._of_model: dict[str, str] = {}

    def check_model(self, codec: Codec) -> None:
        """One whose x is affine in the pixels."""
        check_affine(codec)

    def told_apart_by(self) -> str:
        """Nothing: its values have one name, whatever the options."""
        return ""

    def protocol(self) -> dict[str, str]:
        """The integral, and what of the model it is over, known once an image was seen."""
        return {
            "trace": f"{self.probes} probes" if self.probes else "exact trace",
            "draws": str(self.draws),
            "probes": str(self.probes),
            "steps": str(self.steps),
            "evaluations": str(4 * self.steps * self.draws),
            "seed": str(self.seed),
            **self._of_model,
        }

    def update(
        self,
        images: Tensor,
        *,
        real: bool = False,
        labels: Tensor | None = None,
        index: Tensor | None = None,
        cond: Cond | None = None,
        model: ScoredModel | None = None,
        **later: Any,
    ) -> None:
        """Add the bits of real images.

        Args:
            images: uint8 (B, C, H, W).
            real: They are, whatever it says.
            labels: Not looked at; ``cond`` has them.
            index: (B,), their numbers, by which each has its random numbers.
            cond: What the network is told of them.
            model: Whose density.
            later: Not looked at.

        Raises:
            ValueError: No model, or one whose codec is not affine in pixels.
        """
        if model is None:
            raise ValueError("bits_per_dim asks the model itself, and there is none: score a run, not a set of images")
        numbers = torch.arange(len(self.bits), len(self.bits) + len(images)) if index is None else index
        self._of_model = _about(model)
        # gradients flow through the network; what was made in inference mode may not be in them
        with torch.inference_mode(False), _weights_at_rest(model.denoiser.network):
            told = {name: value.clone() for name, value in (cond or {}).items()}
            for rows in torch.split(torch.arange(len(images)), self.slice):
                here = rows.to(images.device)
                part = {name: value[here] for name, value in told.items()}
                self._add(images[here].clone(), part, numbers[rows.to(numbers.device)], model)

    def _add(self, images: Tensor, cond: Cond, numbers: Tensor, model: ScoredModel) -> None:
        denoiser, codec = model
        streams = ImageStreams(self.seed, numbers.tolist(), codec.spec.shape, images.device)
        denoise = bind(denoiser, cond, codec.spec)
        how = (self.probes, self.draws, self.steps)
        found = bits_per_dim(denoise, images, codec, denoiser.schedule, streams, *how)
        self.append("bits", found.per_image, numbers)
        self.append("errors", found.error, numbers)

    def compute(self) -> dict[str, float]:
        """``bits_per_dim``, ``_error`` and ``_estimate_error``; an error that cannot be known is left out."""
        if not len(self.bits):
            raise ValueError("bits_per_dim saw no image")
        found = {"bits_per_dim": float(self.bits.mean())}
        # over images, which holds that of draws and probes; of a single image its own
        several = len(self.bits) > 1
        error = float(self.bits.std()) / math.sqrt(len(self.bits)) if several else float(self.errors)
        estimate_error = float(self.errors.square().sum().sqrt()) / len(self.errors)
        if not math.isnan(error):
            found["bits_per_dim_error"] = error
        if not math.isnan(estimate_error):
            found["bits_per_dim_estimate_error"] = estimate_error
        return found


@contextlib.contextmanager
def _weights_at_rest(network: object) -> Iterator[None]:
    """No gradient is wanted of a weight: what it would need is then not kept."""
    weights = list(network.parameters()) if isinstance(network, torch.nn.Module) else []
    wanted = [weight for weight in weights if weight.requires_grad]
    try:
        for weight in wanted:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in wanted:
            weight.requires_grad_(True)


def _about(model: ScoredModel) -> dict[str, str]:
    """What of a model the density depends on beside its weights."""
    schedule = model.denoiser.schedule
    noisiest, cleanest = (schedule.at(t) for t in schedule.ends())
    given = sorted(name for name, one in model.codec.spec.cond.items() if not one.neutral)
    return {
        "given": ", ".join(given) or "nothing",  # ln p(x | class), where there is one
        "cleanest sigma / alpha": f"{float(cleanest.ratio):.4g}",
        "noisiest sigma / alpha": f"{float(noisiest.ratio):.4g}",
    }
