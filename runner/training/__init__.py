"""Training: the loop, its steps, and all that changes in them."""

from .trainer import Trainer

__all__ = ["Trainer"]
