"""Scoring images: of a trained run, or any set of them beside any other."""

from .results import Results, table
from .scoring import Evaluation
from .trained import Trained

__all__ = ["Evaluation", "Results", "Trained", "table"]
