"""Averages of the weights over training."""

from .base import Average
from .fixed import Fixed

__all__ = ["Average", "Fixed"]
