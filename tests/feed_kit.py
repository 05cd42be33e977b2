"""Data sets for the tests of the feed; in a module of their own, so that worker processes can import them."""

import os
import time
from pathlib import Path

import torch

from dmf.core import Dataset, DataSpec, Example
from dmf.registry import UserError


class Counting(Dataset):
    """Image i is made of i; read item by item, or all at once. What is asked for item by item is noted in ``asked``."""

    def __init__(self, count: int, at_once: bool) -> None:
        self.spec = DataSpec((1, 2, 2), ("even", "odd"))
        self.count, self.at_once = count, at_once
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Example:
        self.asked.append(i)
        return Example(image_of(torch.tensor(i)), {"class": torch.tensor(i % 2)})

    def tensors(self) -> tuple[torch.Tensor, dict[str, torch.Tensor]] | None:
        i = torch.arange(self.count)
        return (image_of(i), {"class": i % 2}) if self.at_once else None


def image_of(i: torch.Tensor) -> torch.Tensor:
    """Four pixels that say which image it is, no two alike and none its own mirror image: (..., 1, 2, 2)."""
    digits = [i % 251, i // 251 % 251, i // 251**2 % 251, 255 - i % 251]
    return torch.stack([torch.as_tensor(d).to(torch.uint8) for d in digits], -1).unflatten(-1, (1, 2, 2))


class Failing(Counting):
    """One image is no image."""

    def __init__(self, count: int, bad: int, error: type[Exception] = UserError) -> None:
        super().__init__(count, False)
        self.bad, self.error = bad, error

    def __getitem__(self, i: int) -> Example:
        if i == self.bad:
            raise self.error(f"pets/{i}.png is no picture; take it out")
        return super().__getitem__(i)


class Dying(Counting):
    """The process that reads one of its images is killed, as by a system that has run out of memory."""

    def __getitem__(self, i: int) -> Example:
        if i == 7:
            os.kill(os.getpid(), 9)
        return super().__getitem__(i)


class Telling(Counting):
    """Notes each process that reads, by its number and how many threads it computes on, in a folder; slowly."""

    def __init__(self, count: int, folder: Path) -> None:
        super().__init__(count, False)
        self.folder = folder

    def __getitem__(self, i: int) -> Example:
        (self.folder / str(os.getpid())).write_text(str(torch.get_num_threads()))
        time.sleep(0.001)
        return super().__getitem__(i)


class Stuck(Counting):
    """One image takes for ever, as on a server that does not answer."""

    def __getitem__(self, i: int) -> Example:
        if i == 7:
            time.sleep(1000)
        return super().__getitem__(i)


class Unpicklable(Counting):
    """Holds an open file."""

    def __init__(self, count: int, file: Path) -> None:
        super().__init__(count, False)
        self.file = open(file, "w")  # noqa: SIM115 - the test closes it
