"""The randomness of training: a pure function of (seed, images seen), whatever the number of ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from ...core import Density, Level, drop, generator, stream_seed
from ...core.densities import stratified
from ..assemble import Model
from ..feed import Batch
from ..feed.moving import there
from ..world import World
from .checksums import as_hex, checksum


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
        eps = self._noise(images_seen)[share]
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

    def checksums(self, numbers: Tensor, images_seen: int) -> dict[str, str]:
        """What the whole global batch was, and drew, in hexadecimal: the same on any number of ranks.

        Drawn once more to be summed up, so that a step that nobody asks about pays nothing.

        Args:
            numbers: Of its images, (batch_size,).
            images_seen: Where it starts.
        """
        drawn = {"images": numbers, "noise": self._noise(images_seen), "times": self._times(images_seen)}
        return {name: as_hex(checksum(value)) for name, value in drawn.items()}

    def _noise(self, images_seen: int) -> Tensor:
        """The noise of the global batch, (batch_size, *shape), on the device."""
        random = generator(self.seed, "noise", images_seen, self.world.device)
        return torch.randn((self.batch_size, *self.model.codec.spec.shape), generator=random, device=self.world.device)

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
