"""What runs in a worker process: it reads the rows that it is asked for."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset as TorchDataset

from ...core import Dataset
from ...registry import UserError
from .source import Rows


@dataclass(frozen=True)
class Failure:
    """An error of a worker, on its way to the trainer.

    Attributes:
        text: What it says.
        trace: Where it was raised; empty for a user's mistake, of which the text is enough.
    """

    text: str
    trace: str

    def error(self) -> Exception:
        """To be raised there."""
        if not self.trace:
            return UserError(self.text)
        return RuntimeError(f"a worker that reads the images failed: {self.text}\n{self.trace}")


class Reader(TorchDataset[Any]):
    """A data set as the DataLoader wants it: whole batches at once, errors as values.

    Args:
        packed: The data set, pickled; each worker unpacks its own.
    """

    def __init__(self, packed: bytes) -> None:
        self.packed = packed
        self.dataset: Dataset | None = None

    def __getitems__(self, numbers: list[int]) -> Rows | Failure:
        """The rows of a batch; the DataLoader calls this."""
        try:
            if self.dataset is None:
                self.dataset = pickle.loads(self.packed)
            return read_rows(self.dataset, numbers)
        except UserError as error:
            return Failure(str(error), "")
        except Exception as error:  # the trainer raises it
            return Failure(f"{type(error).__name__}: {error}", traceback.format_exc())


def read_rows(dataset: Dataset, numbers: Sequence[int]) -> Rows:
    """Images uint8 (b, C, H, W) and conditioning of the given numbers, on the CPU."""
    images, cond = dataset.rows(numbers)
    return images, dict(cond)


def as_is(rows: Any) -> Any:
    """They are a batch already, or a failure."""
    return rows


def begin_worker(number: int) -> None:
    """Die with the trainer."""
    threading.Thread(target=_die_with_the_trainer, name="dmf-trainer", daemon=True).start()


def _die_with_the_trainer() -> None:
    """However it ends. The DataLoader's own watch looks at the parent, which is the fork server, and that lives on."""
    trainer = multiprocessing.parent_process()
    assert trainer is not None
    trainer.join()
    os._exit(1)
