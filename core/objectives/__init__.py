"""Training objectives: from a network's attempt to one loss per image.

An objective is a function (attempt, *, options) -> (B,), or an `nn.Module` with weights of its own (a learned
uncertainty, a projector, a teacher), which is then trained, sharded and saved with the backbone.
"""

from .base import Attempt, Objective
from .huber import huber
from .l1 import l1
from .l2 import l2
from .loss import training_loss

__all__ = ["Attempt", "Objective", "huber", "l1", "l2", "training_loss"]
