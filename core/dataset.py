"""Where images come from."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .conditioning import Cond
from .spec import DataSpec, Example


@dataclass(frozen=True)
class LeftOut:
    """Something that cannot be used as an image, and why.

    Attributes:
        name: Of the file, below the root of its set; every character of it can be shown.
        reason: What is the matter and what to do, to be read after the name: "is empty; copy it anew".
    """

    name: str
    reason: str


class Dataset(ABC):
    """A fixed row of uint8 images with what is known of each.

    A subclass sets ``spec`` in its constructor and writes ``__len__`` and ``__getitem__``; one whose images fit in
    memory also gives them at once by `tensors`, and then trains without a data loader. Any other is pickled, for the
    processes that read ahead.

    Attributes:
        spec: Shape in pixels, classes, conditioning.
        left_out: What was found, cannot be used, and is no image of the set.
    """

    spec: DataSpec
    left_out: Sequence[LeftOut] = ()

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def __getitem__(self, i: int) -> Example:
        """Image i."""

    def rows(self, numbers: Sequence[int]) -> tuple[Tensor, Cond]:
        """Images of the given numbers, uint8 (B, C, H, W), and their conditioning, (B, ...) each.

        Item by item, unless a subclass reads many at once in less time.
        """
        examples = [self[i] for i in numbers]
        cond = {name: torch.stack([one.cond[name] for one in examples]) for name in self.spec.cond}
        return torch.stack([one.image for one in examples]), cond

    def name_of(self, i: int) -> str:
        """What a message calls image i: the name of its file, where it has one."""
        return f"image {i}"

    def tensors(self) -> tuple[Tensor, Cond] | None:
        """All images as uint8 (N, C, H, W) and their conditioning, (N, ...) each; None when they are too many."""
        return None

    def conditions(self) -> Cond | None:
        """The conditioning of all images, (N, ...) each, where it is known without reading them; else None."""
        held = self.tensors()
        return None if held is None else held[1]

    def held_out(self) -> Dataset | None:
        """Images of the same kind that training never sees, or None."""
        return None

    def fingerprint(self) -> str:
        """A sha256 of every image and condition, in order: what "the same data" means. Worked out once.

        A subclass may take it of what the images are made of, and of a great many bytes of a sample that it names.
        """
        if "_fingerprint" not in self.__dict__:
            self._fingerprint = self._digest()
        return self._fingerprint

    def _digest(self) -> str:
        digest = hashlib.sha256(repr((self.spec.shape, self.spec.classes, len(self))).encode())
        held = self.tensors()
        if held is None:
            for i in range(len(self)):
                example = self[i]
                _feed(digest, example.image, example.cond)
        else:
            _feed(digest, *held)
        return digest.hexdigest()


class InMemory(Dataset):
    """A data set whose images are all in memory.

    Args:
        spec: Shape in pixels, classes, conditioning.
        images: uint8 (N, C, H, W).
        cond: (N, ...) each, by the names of ``spec.cond``.
    """

    def __init__(self, spec: DataSpec, images: Tensor, cond: Cond) -> None:
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != spec.shape:
            raise ValueError(
                f"images are uint8 (N, {', '.join(map(str, spec.shape))}); got {images.dtype} {tuple(images.shape)}"
            )
        self.spec, self.images, self.cond = spec, images, dict(cond)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Example:
        return Example(self.images[i], {name: value[i] for name, value in self.cond.items()})

    def rows(self, numbers: Sequence[int]) -> tuple[Tensor, Cond]:
        """Of the tensors, at once."""
        where = torch.as_tensor(numbers, dtype=torch.int64)
        return self.images[where], {name: value[where] for name, value in self.cond.items()}

    def tensors(self) -> tuple[Tensor, Cond]:
        """All of it."""
        return self.images, self.cond


def _feed(digest: hashlib._Hash, images: Tensor, cond: Cond) -> None:
    for value in (images, *(cond[name] for name in sorted(cond))):
        digest.update(torch.as_tensor(value).contiguous().cpu().numpy().tobytes())
