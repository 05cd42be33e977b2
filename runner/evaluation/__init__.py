"""Scoring images: of a trained run, or any set of them beside any other.

`scoring` is the heart: `streams` of images pass (`passes`) through every metric, ranks are joined (`reduce`) and values
taken (`values`), each with its protocol (`outcome`); `scored` is what all that gives, and `trouble` what may fail in a
part of it and costs the rest nothing. `against` has the reference's side, of which `published` knows the statistics and
`reference_cache` keeps one's own; `origins` says whose code made it, and `checks` tells before the work what cannot be.

`evaluation` is that of a recipe, of a `trained` network; `during` the one while it trains. `protocol` is stamped on
`results`, of which `better` knows the better way; `report` writes them, `reference_file` the reference's statistics,
`saving` the images, `first_images` a sheet of the first. `tracking` tells the hooks of the run, under names that
`settings` makes.
"""

from .evaluation import Evaluation
from .results import Results, table
from .scoring import Named, Scored, Scoring, score
from .trained import Trained

__all__ = ["Evaluation", "Named", "Results", "Scored", "Scoring", "Trained", "score", "table"]
