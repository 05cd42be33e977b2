"""What a training step computes: the module that DDP wraps."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from ..core import (
    Denoiser,
    Density,
    Level,
    Objective,
    Prediction,
    Weighting,
    drop,
    generator,
    stream_seed,
    training_loss,
)
from ..core.densities import stratified
from .assemble import Model
from .console import log
from .feed import Batch
from .feed.moving import there
from .world import World


class Learner(nn.Module):
    """The backbone, and the objective when it has weights of its own; forward gives losses.

    Args:
        model: The model; its backbone is trained.
        objective: Judges attempts.
        weighting: Weighs levels.
        loss_space: The prediction in whose terms the error is taken; None is the network's own.
        autocast: Arithmetic of the network; None is that of the weights.
    """

    def __init__(
        self,
        model: Model,
        objective: Objective,
        weighting: Weighting,
        loss_space: Prediction | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.objective = objective
        self._weighting, self._loss_space, self._autocast = weighting, loss_space, autocast
        self._denoiser: Denoiser = model.denoiser(self._network)
        self._first = True

    def _network(self, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        output = self._output(x, noise, cond)
        if self._first and output.requires_grad:
            self._first = False
            if output.shape[1] > x.shape[1]:
                output.register_hook(partial(_warn_of_idle, channels=x.shape[1]))  # type: ignore[no-untyped-call]
        return output

    def _output(self, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        if self._autocast is None:
            return self.backbone(x, noise, cond)  # type: ignore[no-any-return]
        with torch.autocast(x.device.type, self._autocast):
            return self.backbone(x, noise, cond)  # type: ignore[no-any-return]

    def forward(self, x0: Tensor, eps: Tensor, level: Level, cond: Mapping[str, Tensor]) -> Tensor:
        """One loss per image, (b,)."""
        return training_loss(self._denoiser, self.objective, self._weighting, x0, eps, level, cond, self._loss_space)


def _warn_of_idle(gradient: Tensor, channels: int) -> None:
    """Tell, once, of the network's extra channels that the objective does not read.

    Whether it does is seen in what comes back: an objective is any function, and says nothing of it.

    Args:
        gradient: Of the loss by the network's output, (B, C and extras, *size).
        channels: C.
    """
    idle = int((gradient[:, channels:].transpose(0, 1).flatten(1) == 0).all(1).sum())
    if idle:
        log.warning(
            "the backbone gives %d channels for images of %d, and the objective does not read %d of them: what makes "
            "those is not trained; leave them out, or name an objective in train.objective that reads them",
            gradient.shape[1],
            channels,
            idle,
        )


class Draws:
    """The randomness of a training step, drawn for the whole global batch, of which each rank takes its share.

    Args:
        model: Gives codec and schedule.
        density: Of training times.
        seed: The recipe's.
        batch_size: Global.
        label_dropout: Share of images trained without their condition.
        world: Whose share.
        stratified: Whether the times of a batch are spread evenly over the density.
        moment_dtype: What the codec's moments are rounded to.
    """

    def __init__(
        self,
        model: Model,
        density: Density,
        seed: int,
        batch_size: int,
        label_dropout: float,
        world: World,
        *,
        stratified: bool = False,
        moment_dtype: torch.dtype = torch.float32,
    ) -> None:
        self.model, self.density, self.seed = model, density, seed
        self.batch_size, self.label_dropout, self.world = batch_size, label_dropout, world
        self.stratified, self.moment_dtype = stratified, moment_dtype

    def __call__(self, batch: Batch, images_seen: int) -> tuple[Tensor, Tensor, Level, dict[str, Tensor]]:
        """(x0, eps, level, cond): what the learner sees of ``batch``."""
        share, spec = self.world.share_of(self.batch_size), self.model.codec.spec
        x0 = self._clean(batch, images_seen)
        # never a shorter draw: it would give other numbers on another number of ranks
        level = self.model.schedule.at(self._times(images_seen)[share]).per_image(x0.ndim)
        noise = generator(self.seed, "noise", images_seen, self.world.device)
        eps = torch.randn((self.batch_size, *spec.shape), generator=noise, device=self.world.device)[share]
        dropped = torch.rand(self.batch_size, generator=generator(self.seed, "label", images_seen)) < self.label_dropout
        told = drop(batch.cond, spec, there(dropped[share], self.world.device))
        return x0, eps, Level(*(there(n, self.world.device) for n in (level.t, level.alpha, level.sigma))), told

    def _clean(self, batch: Batch, images_seen: int) -> Tensor:
        """The x0 of the images, (b, *shape): drawn anew each time that they are seen, where the codec has moments."""
        codec = self.model.codec
        moments = batch.images if batch.encoded else codec.moments(batch.images)
        if moments is None:
            return codec.encode(batch.images)
        kept = moments if batch.encoded else moments.to(self.moment_dtype)  # rounded alike, from disk or not
        random = generator(self.seed, "latent", images_seen, self.world.device)
        eps = torch.randn((self.batch_size, *codec.spec.shape), generator=random, device=self.world.device)
        return codec.draw(kept.to(torch.float32), eps[self.world.share_of(self.batch_size)])

    def _times(self, images_seen: int) -> Tensor:
        """The training times of the global batch, (batch_size,) float64."""
        random = generator(self.seed, "time", images_seen)
        if self.stratified:
            u = stratified(self.batch_size, random)
        else:
            u = torch.rand(self.batch_size, dtype=torch.float64, generator=random)
        return self.density(u, self.model.schedule)

    def seed_network(self, images_seen: int) -> None:
        """Seed the network's own dropout for this step and rank."""
        torch.manual_seed(stream_seed(self.seed, f"network of rank {self.world.rank}", images_seen))
