"""Guidance: how a denoiser and one to get away from become one."""

from .base import Around, Guidance
from .cfg import CFG
from .interval import Interval
from .rescale import Rescale
from .threshold import DynamicThreshold

__all__ = ["CFG", "Around", "DynamicThreshold", "Guidance", "Interval", "Rescale"]
