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

__all__ = [
    "MANIFEST",
    "Checkpoint",
    "DamagedCheckpoint",
    "Tensors",
    "load",
    "newest",
    "place",
    "save",
    "settle",
    "steps",
]
