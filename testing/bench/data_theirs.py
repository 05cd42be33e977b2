"""How images are loaded elsewhere: torchvision's sets with the usual transforms in torch's DataLoader."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

WORKERS = 2


def transforms() -> Any:
    """A flip, pixels in [-1, 1]: what our side does too."""
    from torchvision import transforms as of

    return of.Compose([of.RandomHorizontalFlip(), of.ToTensor(), of.Normalize(0.5, 0.5)])


def cifar10(root: Path) -> Any:
    """torchvision's CIFAR-10, which is whole in memory; a picture a call."""
    from torchvision import datasets

    return datasets.CIFAR10(str(root), transform=transforms())


def folder(root: Path) -> Any:
    """torchvision's ImageFolder: it lists the files, and reads one a call."""
    from torchvision import datasets

    return datasets.ImageFolder(str(root), transform=transforms())


def batches(dataset: Any, batch: int, device: torch.device, workers: int = WORKERS) -> Generator[int]:
    """An endless row of batches on a device; the number of images of each.

    Args:
        dataset: Gives a tensor and a label a call.
        batch: Images.
        device: Where they go.
        workers: Processes, kept from epoch to epoch.
    """
    pinned = device.type == "cuda"
    loader: Any = DataLoader(
        dataset, batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0, pin_memory=pinned
    )
    while True:
        for images, labels in loader:
            images.to(device, non_blocking=pinned), labels.to(device, non_blocking=pinned)
            yield len(images)


def first_batch(root: str, batch: int) -> float:
    """Seconds to list an ImageFolder and load one batch, in this process."""
    import torchvision  # noqa: F401 - the import takes seconds, and is not what is timed

    began = time.perf_counter()
    next(iter(DataLoader(folder(Path(root)), batch, shuffle=True)))
    return time.perf_counter() - began


def one_pass(root: str, batch: int) -> float:
    """Seconds to list an ImageFolder and load every image once."""
    import torchvision  # noqa: F401

    began = time.perf_counter()
    for _ in DataLoader(folder(Path(root)), batch, num_workers=WORKERS):
        pass
    return time.perf_counter() - began
