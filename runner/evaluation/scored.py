"""What an evaluation gives: values, and what is missing of them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ...core import Way
from .results import Results


@dataclass(frozen=True)
class Scored:
    """What an evaluation gives.

    Attributes:
        results: By the name of the value; on every rank.
        pictures: uint8 (C, H, W) by name; on rank 0, elsewhere empty.
        cautions: What a reader of the values should know, each sentence once; on every rank.
        better: Which way a value is better, by its name, where it is either way; on every rank.
        errors: Why something is missing, a sentence each; on every rank.
        complete: Whether all images were made, or read.
    """

    results: Results
    pictures: dict[str, Tensor]
    cautions: list[str]
    better: dict[str, Way]
    errors: tuple[str, ...] = ()
    complete: bool = True
