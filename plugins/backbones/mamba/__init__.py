"""State-space layers: Mamba-1 and Mamba-2, with their scans behind one function each and three backends."""

from .backends import Backend, Layer, Resolved, resolve
from .functions import selective_scan, state_space_dual
from .mamba1 import Mamba
from .mamba2 import Mamba2

__all__ = ["Backend", "Layer", "Mamba", "Mamba2", "Resolved", "resolve", "selective_scan", "state_space_dual"]
