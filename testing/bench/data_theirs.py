"""How images are loaded elsewhere: torchvision's sets with the usual transforms in torch's DataLoader."""

from __future__ import annotations

from collections.abc import Iterator
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


def batches(dataset: Any, batch: int, device: torch.device, workers: int = WORKERS) -> Iterator[int]:
    """An endless row of batches on a device; the number of images of each.

    Args:
        dataset: Gives a tensor and a label a call.
        batch: Images.
        device: Where they go.
        workers: Processes, kept from epoch to epoch.
    """
    pinned = device.type == "cuda"
    options = {"num_workers": workers, "persistent_workers": workers > 0, "pin_memory": pinned}
    loader: Any = DataLoader(dataset, batch, shuffle=True, **options)
    while True:
        for images, labels in loader:
            images.to(device, non_blocking=pinned), labels.to(device, non_blocking=pinned)
            yield len(images)


def one_pass(dataset: Any, batch: int, workers: int = WORKERS) -> int:
    """Read every image once; how many there were."""
    return sum(len(images) for images, _ in DataLoader(dataset, batch, num_workers=workers))
