"""The course of the learning rate after its warm-up.

A decay is a function (progress, *, options) -> factor on the recipe's learning rate. It knows nothing of ranks: all is
counted in images.
"""

from .base import Decay, Progress
from .constant import constant
from .cosine import cosine
from .inverse_sqrt import inverse_sqrt
from .linear import linear
from .step import step

__all__ = ["Decay", "Progress", "constant", "cosine", "inverse_sqrt", "linear", "step"]
