"""The contests of `dmf bench data` that are held in its own process: rates, the step's wait, augmentations."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any

import torch

from ...core import Augmentation, generator
from ...testing.bench import data_theirs
from ...testing.bench.data import Claim, Result, Row, Side, over, race
from ...testing.bench.timing import spread
from .steps import Times, training_steps
from .workshop import SEED, Tick, Workshop

RESIDENT_RATIO, STREAMED_RATIO, WAIT_PERCENT = 20.0, 1.0, 1.0  # what is wanted
WORKERS = data_theirs.WORKERS
DATALOADER = f"`DataLoader`, {WORKERS} workers, torchvision `CIFAR10`"
AUGMENTATIONS: dict[str, dict[str, Any]] = {"flip": {}, "crop": {}, "edm": {"probability": 0.12}}
RECIPE, EDM_RECIPE = "cifar10_unet", "cifar10_edm_unet"
EDM_STEP_SHARE = 8  # its network costs more: a step has so many times fewer images


def resident(shop: Workshop, tick: Tick) -> Result:
    """CIFAR-10 on the device, beside torchvision's in memory."""
    theirs = shop.theirs(DATALOADER, data_theirs.cifar10(shop.root))
    rows, (ours, other) = race([shop.ours("`cifar10`, on the device", shop.cifar), theirs], shop.under, tick)
    claim = Claim("images/s of ours over theirs", over(ours, other), least=RESIDENT_RATIO)
    return Result("resident", "CIFAR-10 on the device, to batches of x, flipped and normalised", rows, [claim])


def streamed(shop: Workshop, tick: Tick) -> Result:
    """Files read by workers, and a set too large for the device, beside torchvision's."""
    lazy = shop.streamed_set()
    folder = data_theirs.folder(shop.png_folder(shop.sizes.streamed))
    sides = [
        shop.ours(f"`image_folder`, PNG files, {WORKERS} workers", lazy, workers=WORKERS),
        shop.ours("`cifar10`, in the host's memory", shop.cifar, device_gib=0),
        shop.theirs(f"`DataLoader`, {WORKERS} workers, torchvision `ImageFolder`, the same files", folder),
        shop.theirs(DATALOADER, data_theirs.cifar10(shop.root)),
    ]
    rows, (files, gathered, their_files, their_memory) = race(sides, shop.under, tick)
    claims = [
        Claim("PNG files: ours over `ImageFolder`", over(files, their_files), least=STREAMED_RATIO),
        Claim("our PNG files over their `CIFAR10` in memory", over(files, their_memory), least=STREAMED_RATIO),
        Claim("in the host's memory: ours over their `CIFAR10`", over(gathered, their_memory), least=STREAMED_RATIO),
    ]
    return Result("streamed", "sets that do not lie on the device, to the same batches", rows, claims)


def wait(shop: Workshop, tick: Tick) -> Result:
    """What a training step of the shipped recipe spends on its batch."""
    held = {"dataset": {"name": "cifar10", "root": str(shop.root), "download": False}}
    files = {"dataset": {"name": "image_folder", **shop.streamed_options()}, "loading": {"workers": WORKERS}}
    kinds = {"`cifar10`, on the device": held, f"`image_folder`, PNG files, {WORKERS} workers": files}
    rows, claims = [], []
    for name, words in kinds.items():
        times = _steps(shop, RECIPE, words, 1, tick)
        step, waited = times.ms()
        rows.append(Row(name, {"a step, ms": step, "wait for its batch, ms": waited}))
        claims.append(Claim(f"{name}: the wait in the step", times.share(), " %", most=WAIT_PERCENT))
    title = f"{shop.sizes.steps} training steps of `{RECIPE}`, {_conditions(shop, times)}"
    return Result("wait", title, rows, claims)


def edm(shop: Workshop, tick: Tick) -> Result:
    """The augmentations on the device, beside the training step that the costly one is made for."""
    parts = {name: shop.augmentation(name, **options) for name, options in AUGMENTATIONS.items()}
    sides = [Side(f"`{name}`", partial(_changed, shop, one)) for name, one in parts.items()]
    rows, rates = race(sides, shop.under, tick)
    held = {"dataset": {"name": "cifar10", "root": str(shop.root), "download": False}}
    times = _steps(shop, EDM_RECIPE, held, EDM_STEP_SHARE, tick)
    step = spread([times.batch / seconds for seconds in times.step_s])
    rows.append(Row(f"a training step of `{EDM_RECIPE}`, {_conditions(shop, times)}", {"images/s": step}))
    share = spread([100 * step.median / rate for rate in rates[-1]])
    claim = Claim("what `edm` adds to that step", share, " %")
    return Result("edm", "augmentations alone, on a batch that lies on the device", rows, [claim])


def _changed(shop: Workshop, change: Augmentation) -> Generator[int]:
    """A batch of CIFAR-10's images, changed again and again."""
    held, batch = shop.cifar.tensors(), shop.under.batch
    assert held is not None
    images = held[0][:batch].to(shop.under.device)
    draws = torch.rand(batch, change.draws, generator=generator(SEED, "bench", 0)).to(shop.under.device)
    while True:
        change(images, draws)
        yield len(images)


def _steps(shop: Workshop, recipe: str, words: dict[str, Any], less: int, tick: Tick) -> Times:
    """Steps of a recipe, on a CPU with so many times fewer images than `Sizes` says, in fp32."""
    batch = shop.sizes.step_batch
    small = {} if batch is None else {"train.batch_size": max(batch // less, 1), "train.precision": "fp32"}
    place = {"device": shop.under.device.type}
    return training_steps(recipe, {**words, **small, **place}, shop.world, shop.scratch, shop.sizes.steps, tick)


def _conditions(shop: Workshop, times: Times) -> str:
    precision = "as in the recipe" if shop.sizes.step_batch is None else "in fp32"
    return f"{times.batch} images a step, {precision}"
