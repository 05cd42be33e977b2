"""Checkpoints: whole or not there.

`saver` writes them, by `shards` where each rank holds a part and from the copy of `staging` while training goes on;
`keeping` says which stay, `reading` reads them, `layout` knows what lies where.
"""

from .keeping import POINTER, best_step, check_best, staying
from .layout import MANIFEST, DamagedCheckpoint, Tensors, groups_in, place, steps
from .reading import Checkpoint, identity, load, newest, restore_into, settle, shapes_in
from .saver import Saver

__all__ = [
    "MANIFEST",
    "POINTER",
    "Checkpoint",
    "DamagedCheckpoint",
    "Saver",
    "Tensors",
    "best_step",
    "check_best",
    "groups_in",
    "identity",
    "load",
    "newest",
    "place",
    "restore_into",
    "settle",
    "shapes_in",
    "staying",
    "steps",
]
