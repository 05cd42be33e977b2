"""Every backbone learns, and one that is broken does not: the levels are such that no broken one reaches them.

Three tasks of some seconds; of the broken ones, those far above the level or slow are trained in full counts alone.
Losses with the seeds 0, 1, 2, of the whole network and of the broken one:

| | the class | is lost | the noise label | is lost |
|---|---|---|---|---|
| context_unet | 0.182 0.182 0.184 | 0.297 0.297 0.297 | 0.058 0.033 0.045 | 0.258 0.255 0.256 |
| dim | 0.199 0.198 0.203 | 0.298 0.297 0.298 | 0.018 0.019 0.017 | 0.261 0.262 0.262 |
| dit | 0.188 0.192 0.200 | 0.297 0.298 0.298 | 0.015 0.012 0.013 | 0.257 0.261 0.254 |
| unet | 0.197 0.190 0.196 | 0.309 0.305 0.308 | 0.033 0.020 0.022 | 0.269 0.263 0.265 |

| dim's scan | its inverse not applied | another order in each call |
|---|---|---|
| 0.012 0.012 0.007 | 0.129 0.129 0.133 | 0.254 0.258 0.254 |
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from conftest import FULL
from torch import Tensor

from dmf.core import Backbone, Cond, DataSpec, Denoiser, Pixels, training_loss
from dmf.core.objectives import l2
from dmf.core.predictions import x0 as predict_x0
from dmf.core.scans import Column
from dmf.core.weightings import uniform
from dmf.plugins.backbones._rows import Row
from dmf.plugins.datasets.digits import Digits
from dmf.plugins.schedules.flow import Flow
from dmf.registry import find, load, parts

Network = Callable[[Tensor, Tensor, Cond], Tensor]
Loss = Callable[[Network, Tensor, Cond, torch.Generator], Tensor]
SPEC = Digits().spec
SEED = 0
CLASS_LEVEL, NOISE_LEVEL, SCAN_LEVEL = 0.24, 0.1, 0.04


@dataclass(frozen=True)
class Learner:
    """A small network, and what it takes to learn the digits by their class."""

    options: Mapping[str, Any]
    lr: float
    steps: int

    def network(self, name: str, spec: DataSpec, **options: Any) -> Backbone:
        made: Backbone = load(find("backbone", name))(spec, **{**self.options, **options})
        return made


LEARNERS = {
    "context_unet": Learner({"width": 16, "groups": 4}, lr=0.005, steps=100),
    "dim": Learner({"hidden": 32, "depth": 2, "state": 4}, lr=0.02, steps=120),
    "dit": Learner({"hidden": 64, "depth": 2, "heads": 4}, lr=0.01, steps=200),
    "unet": Learner(
        {"base": 16, "multipliers": [1, 2], "blocks": 1, "attention": [], "groups": 8, "dropout": 0.0},
        lr=0.005,
        steps=140,
    ),
}
NAMES = pytest.mark.parametrize("name", LEARNERS)
IN_FULL_COUNTS = pytest.mark.skipif(not FULL, reason="takes its time, the gap is wide; DMF_FULL=1 runs it")


def after_training(network: Backbone, loss: Loss, steps: int, lr: float, seen: Network | None = None) -> float:
    """The loss on held-out digits; ``seen`` is the network as the world has it, if something stands between."""
    digits, test, draw = Digits(), Digits(split="test"), torch.Generator().manual_seed(SEED + 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    # up in ten steps, and then down to 0
    course = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(1, (i + 1) / 10) * (1 - i / steps))
    for _ in range(steps):
        rows = torch.randint(len(digits), (64,), generator=draw)
        optimizer.zero_grad()
        loss(seen or network, digits.images[rows], {"class": digits.cond["class"][rows]}, draw).backward()
        optimizer.step()
        course.step()
    network.eval()
    with torch.no_grad():
        four_times = {"class": test.cond["class"].repeat(4)}
        return float(loss(seen or network, test.images.repeat(4, 1, 1, 1), four_times, draw))


def test_every_backbone_is_here() -> None:
    assert set(LEARNERS) == {part.name for part in parts("backbone")}


# the class


def in_heavy_noise(network: Network, images: Tensor, cond: Cond, draw: torch.Generator) -> Tensor:
    """Squared error of x0_hat from t = 0.94 to 0.99, where hardly anything but the class tells the digit.

    Pixels vary by 0.30 around the mean of all held-out digits, by 0.17 around the means of their classes.
    """
    level = Flow().at(0.94 + 0.05 * torch.rand(len(images), generator=draw).double()).per_image(4)
    x0 = Pixels(SPEC).encode(images)
    eps = torch.randn(x0.shape, generator=draw)
    return training_loss(Denoiser(network, Flow(), predict_x0), l2, uniform, x0, eps, level, cond).mean()


def by_class(name: str, told: bool) -> float:
    torch.manual_seed(SEED)
    learner = LEARNERS[name]
    network = learner.network(name, SPEC)

    def untold(x: Tensor, noise: Tensor, cond: Cond) -> Tensor:
        out: Tensor = network(x, noise, {"class": torch.full_like(cond["class"], SPEC.null_class)})
        return out

    return after_training(network, in_heavy_noise, learner.steps, learner.lr, None if told else untold)


@NAMES
def test_it_learns_the_digits_by_their_class(name: str) -> None:
    assert by_class(name, told=True) < CLASS_LEVEL


@IN_FULL_COUNTS
@NAMES
def test_it_does_not_where_the_class_is_lost(name: str) -> None:
    assert by_class(name, told=False) > CLASS_LEVEL


# the noise level


def of_white_noise(network: Network, images: Tensor, cond: Cond, draw: torch.Generator) -> Tensor:
    """Squared error where the label alone tells what to do: white noise is to be kept at one label, erased at another.

    Whoever does not know which is best off with half of it: the error is then 1/4.
    """
    x = torch.randn(len(images), 1, 8, 8, generator=draw)
    keep = torch.rand(len(images), generator=draw).round()
    return (network(x, 900 - 850 * keep, {}) - keep[:, None, None, None] * x).square().mean()


def by_noise_label(name: str, told: bool) -> float:
    torch.manual_seed(SEED)
    network = LEARNERS[name].network(name, DataSpec((1, 8, 8)))

    def untold(x: Tensor, noise: Tensor, cond: Cond) -> Tensor:
        out: Tensor = network(x, torch.full_like(noise, 500.0), cond)
        return out

    return after_training(network, of_white_noise, 30, 0.01, None if told else untold)


@NAMES
def test_it_learns_what_the_noise_label_tells(name: str) -> None:
    assert by_noise_label(name, told=True) < NOISE_LEVEL


@NAMES
def test_it_does_not_where_the_noise_label_is_lost(name: str) -> None:
    assert by_noise_label(name, told=False) > 2 * NOISE_LEVEL


# the scan


def moved_down(network: Network, images: Tensor, cond: Cond, draw: torch.Generator) -> Tensor:
    """Squared error of the digit moved down by a patch: each is to become what the one above it is."""
    x0 = Pixels(SPEC).encode(images)
    moved = network(x0, torch.full((len(images),), 100.0), {})
    return (moved[:, :, 2:] - x0[:, :, :-2]).square().mean()


def by_scan() -> float:
    """Without the local convolutions, patches hear of one another by the scans alone; here down the columns and up."""
    torch.manual_seed(SEED)
    scans = (Column(), Column(reverse=True))
    network = LEARNERS["dim"].network("dim", DataSpec((1, 8, 8)), local=0, scans=scans)
    return after_training(network, moved_down, 80, 0.02)


def without_inverse(row: Row, tokens: Tensor) -> Tensor:
    """The scan's tokens in their own order, as if it were the image's."""
    return tokens.index_select(1, row.places.sort().values)


def at_random(row: Row, tokens: Tensor) -> Tensor:
    """Another order in each call."""
    places = row.places[1:][torch.randperm(len(row.places) - 1)]
    return tokens.index_select(1, torch.cat([row.places[:1], places]))


def test_dim_learns_what_a_scan_brings() -> None:
    assert by_scan() < SCAN_LEVEL


@pytest.mark.parametrize("shuffled", [without_inverse, pytest.param(at_random, marks=IN_FULL_COUNTS)])
def test_dim_does_not_where_the_scan_is_shuffled(
    shuffled: Callable[[Row, Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Row, "back", shuffled)
    assert by_scan() > SCAN_LEVEL
