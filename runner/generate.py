"""Making images: batches of samples, each from random numbers of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core import Cond, Context, Counted, Denoiser, ImageStreams, SamplingError, bind, complete, null_cond
from ..core.sampler import Watch
from ..files.words import counted, few
from .assemble import Model, Sampling
from .courses import Course, Walk, from_noise
from .world import LocalError

MOST_NAMED = 8


@dataclass(frozen=True)
class Samples:
    """A batch of samples.

    Attributes:
        images: uint8 (B, C, H, W), on the device.
        numbers: Their numbers k, (B,).
        evaluations: How often the network was asked, all of them at once each time.
    """

    images: Tensor
    numbers: Tensor
    evaluations: int


class Generator:
    """Makes sample k of a seed, the same on any batch size and number of ranks.

    Args:
        model: Codec, schedule and prediction.
        network: The weights to use, in eval mode.
        sampling: Sampler, grid, guidance.
        device: Where to compute.
        watch: Called after each step of each batch; may raise, to stop.
        course: From where images are made.
    """

    def __init__(
        self,
        model: Model,
        network: nn.Module,
        sampling: Sampling,
        device: torch.device,
        watch: Watch | None = None,
        course: Course = from_noise,
    ) -> None:
        self.course = course
        self.model, self.sampling, self.device, self.watch = model, sampling, device, watch
        self.denoiser = model.denoiser(network.to(device).eval())

    @torch.inference_mode()
    def batch(self, seed: int, numbers: Sequence[int], cond: Cond) -> Samples:
        """Samples ``numbers`` of ``seed``.

        Args:
            seed: Of the noise.
            numbers: k of each image, B of them.
            cond: Its conditioning, (B, ...) each; empty for unlabelled data.

        Raises:
            LocalError: The sampler gives up, as an adaptive one may, or what it gives is not finite; on other ranks are
                other images.
        """
        walk = self.prepared(seed, numbers, cond)
        try:
            x = self.course(walk)
            check_finite(x, walk.numbers)
            images = self.model.codec.decode(x)
        except SamplingError as error:
            raise LocalError(f"sampler: {error}") from error
        return Samples(images, walk.numbers, walk.denoise.calls)

    def prepared(self, seed: int, numbers: Sequence[int], cond: Cond) -> Walk:
        """Denoiser and noise of a batch; the arguments are those of `batch`."""
        spec = self.model.codec.spec
        streams = ImageStreams(seed, numbers, spec.shape, self.device)
        here = {name: value.to(self.device) for name, value in cond.items()}
        guidance = self.sampling.guidance.for_images(torch.as_tensor(numbers))
        denoise = Counted(bind(self.denoiser, here, spec, guidance, *self._reference(here, len(numbers))))
        context = Context(self.model.schedule, streams.randn)
        return Walk(torch.as_tensor(numbers), self.sampling, denoise, streams, context, self.watch)

    def _reference(self, cond: Cond, batch: int) -> tuple[Denoiser, Cond] | tuple[()]:
        """The reference network and what it is told, if there is one."""
        reference = self.sampling.reference
        if reference is None:
            return ()
        told = cond if reference.labels == "same" else null_cond(cond, self.model.codec.spec)
        return reference.denoiser, complete(told, reference.spec, batch, self.device)

    def batches(self, seed: int, numbers: Sequence[int], cond: Cond, batch_size: int) -> Iterator[Samples]:
        """Samples ``numbers``, ``batch_size`` at a time; ``cond`` holds a row for each."""
        for start in range(0, len(numbers), batch_size):
            part = slice(start, start + batch_size)
            yield self.batch(seed, numbers[part], {name: value[part] for name, value in cond.items()})


def check_finite(x: Tensor, numbers: Tensor) -> None:
    """Accept what a sampler gave: what is no number would become pixels, and scores, without a word.

    Args:
        x: (B, C, H, W).
        numbers: Of the images, (B,).

    Raises:
        LocalError: Some of it is not finite.
    """
    bad = numbers[~x.isfinite().flatten(1).all(1).cpu()].tolist()
    if bad:
        raise LocalError(
            f"sampler: {len(bad)} of {counted(len(x), 'image')} {'is' if len(bad) == 1 else 'are'} not finite "
            f"({few(list(map(str, bad)), most=MOST_NAMED)}): a guidance scale that is too large gives such, steps that "
            "are too far apart, or weights of a training that diverged"
        )
