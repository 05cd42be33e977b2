"""Scoring images: of a trained run, or any set of them beside any other."""

from .evaluation import Evaluation
from .results import Results, table
from .scoring import Named, Scored, Scoring, score
from .trained import Trained

__all__ = ["Evaluation", "Named", "Results", "Scored", "Scoring", "Trained", "score", "table"]
