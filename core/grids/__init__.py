"""Time grids: where the steps of a sampler lie. Independent of schedule and sampler.

A grid is a function (schedule, steps, *, options) -> (steps,) times, noisiest first, each the start of a step; the
last step ends at the clean image, which `levels_of` appends.
"""

from .arctan import arctan
from .explicit import explicit
from .karras import karras
from .leading import leading
from .levels import Grid, levels_of
from .linspace import linspace
from .log_snr import log_snr
from .quadratic import quadratic
from .trailing import trailing
from .uniform import uniform

__all__ = [
    "Grid",
    "arctan",
    "explicit",
    "karras",
    "leading",
    "levels_of",
    "linspace",
    "log_snr",
    "quadratic",
    "trailing",
    "uniform",
]
