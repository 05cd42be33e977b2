"""Scans: orders in which a state-space model reads the patches of an image."""

from .base import Scan, inverse, line_ends
from .column import Column
from .hilbert import Hilbert
from .raster import Raster
from .zigzag import Zigzag

__all__ = ["Column", "Hilbert", "Raster", "Scan", "Zigzag", "inverse", "line_ends"]
