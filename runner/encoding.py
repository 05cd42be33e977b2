"""Images as the noise that gives them back: made by `dmf encode`, read by `dmf sample --noise`."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..core import Cond, Level, encode
from ..files.writing import write_bytes
from ..registry import UserError
from .console import TaskProgress, log
from .generate import Generator, check_finite

KEY = "dmf.noise"


@dataclass(frozen=True)
class Made:
    """How an encoding was made: what gives the images back.

    Attributes:
        run: Name of the run.
        step: Training steps behind the network.
        weights: ``ema`` or ``raw``.
        sampler: As a recipe has it, with steps, grid and guidance.
        alpha: Of the level that the noise is at.
        sigma: Likewise.
    """

    run: str
    step: int
    weights: str
    sampler: dict[str, Any]
    alpha: float
    sigma: float


@dataclass(frozen=True)
class Encoded:
    """The noise of n images.

    Attributes:
        x: (n, C, *size) at the first level of the grid.
        labels: Class of each, the number of classes where it has none; empty for unlabelled data.
        made: How.
        file: Where they lie.
    """

    x: Tensor
    labels: list[int]
    made: Made
    file: Path

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Accept the shape of a run's x, (C, *size).

        Raises:
            UserError: It is another one.
        """
        if tuple(self.x.shape[1:]) != shape:
            theirs, ours = (" x ".join(map(str, one)) for one in (self.x.shape[1:], shape))
            raise UserError(
                f"{self.file} holds noise of {theirs}, and this run makes {ours}; encode the images with this run"
            )

    def check_level(self, level: Level) -> None:
        """Accept the level that a walk starts at.

        Raises:
            UserError: The noise is of another one.
        """
        there, here = (self.made.alpha, self.made.sigma), (float(level.alpha), float(level.sigma))
        if not all(math.isclose(a, b, rel_tol=1e-4) for a, b in zip(there, here, strict=True)):
            raise UserError(
                f"{self.file} holds noise of alpha {there[0]:.4g}, sigma {there[1]:.4g}, but this sampling starts at "
                f"alpha {here[0]:.4g}, sigma {here[1]:.4g}: sample with {self.made.run}, and leave --steps out"
            )

    def check_step(self, step: int) -> None:
        """Say so where the network is not the one that made it."""
        if step != self.made.step:
            log.warning(
                "%s was made after %d steps of %s, and these are %d: the pictures will not be quite the same",
                *(self.file, self.made.step, self.made.run, step),
            )


def encode_images(maker: Generator, images: Tensor, cond: Cond, batch_size: int) -> tuple[Tensor, int]:
    """The noise of images, and how often the network was asked.

    Args:
        maker: Model, network, sampler.
        images: uint8 (n, C, H, W).
        cond: Their conditioning, (n, ...) each.
        batch_size: Images at a time.

    Returns:
        (n, C, *size) on the CPU, and the evaluations of a batch, the most of any.

    Raises:
        UserError: The sampler is stochastic, or an image cannot be encoded.
    """
    found, evaluations = [], 0
    with TaskProgress("encode", len(images)) as bar:
        for start in range(0, len(images), batch_size):
            numbers = range(start, min(start + batch_size, len(images)))
            x, asked = _encode_batch(maker, images[start : numbers.stop], numbers, cond)
            found.append(x.cpu())
            evaluations = max(evaluations, asked)
            bar.step(len(numbers))
    return torch.cat(found), evaluations


@torch.inference_mode()
def _encode_batch(maker: Generator, images: Tensor, numbers: Sequence[int], cond: Cond) -> tuple[Tensor, int]:
    part = {name: value[numbers[0] : numbers[-1] + 1] for name, value in cond.items()}
    walk = maker.prepared(0, numbers, part)
    x0 = maker.model.codec.encode(images.to(maker.device))
    try:
        x = encode(walk.sampling.sampler, walk.denoise, x0, walk.sampling.levels, walk.context)
    except ValueError as error:
        raise UserError(f"sampler: {error}") from error
    check_finite(x, walk.numbers)
    return x, walk.denoise.calls


def save_encoded(encoded: Encoded) -> None:
    """Write an encoding as safetensors, whole or not at all."""
    tensors = {"x": encoded.x.contiguous()}
    if encoded.labels:
        tensors["labels"] = torch.tensor(encoded.labels, dtype=torch.int64)
    write_bytes(encoded.file, save(tensors, {KEY: json.dumps(asdict(encoded.made))}))


def load_encoded(file: Path) -> Encoded:
    """Read an encoding.

    Raises:
        UserError: No such file, or no encoding.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file; make one with dmf encode")
    try:
        with safe_open(file, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
            made = Made(**json.loads((opened.metadata() or {})[KEY]))
            return Encoded(tensors["x"], tensors.get("labels", torch.tensor([])).tolist(), made, file)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        raise UserError(
            f"{file} was not written by dmf encode; make one with dmf encode RUN IMAGE --out FILE"
        ) from None
