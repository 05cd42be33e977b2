"""Mamba-1's scan in chunks."""

from .recurrence import selective

__all__ = ["selective"]
