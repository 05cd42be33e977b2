"""Averages of the weights over training."""

from .base import Average
from .fixed import Fixed
from .half_life import HalfLife
from .power import LONGEST, Power
from .reconstruct import Profiles, Solution, profiles, reconstruct

__all__ = [
    "LONGEST",
    "Average",
    "Fixed",
    "HalfLife",
    "Power",
    "Profiles",
    "Solution",
    "profiles",
    "reconstruct",
]
