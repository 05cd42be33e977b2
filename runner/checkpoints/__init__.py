"""Checkpoints: whole or not there."""

from .files import (
    MANIFEST,
    Checkpoint,
    DamagedCheckpoint,
    Tensors,
    discard,
    load,
    newest,
    place,
    save,
    settle,
    steps,
)
from .saver import Saver

__all__ = [
    "MANIFEST",
    "Checkpoint",
    "DamagedCheckpoint",
    "Saver",
    "Tensors",
    "discard",
    "load",
    "newest",
    "place",
    "save",
    "settle",
    "steps",
]
