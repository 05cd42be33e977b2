"""Checkpoints: whole or not there."""

from .files import (
    MANIFEST,
    Checkpoint,
    DamagedCheckpoint,
    Tensors,
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
    "load",
    "newest",
    "place",
    "save",
    "settle",
    "steps",
]
