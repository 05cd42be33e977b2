"""The absolute error.

Source: Chen et al. 2021, "WaveGrad" (arXiv 2009.00713), who found it steadier than the square in training.
"""

from torch import Tensor

from .base import Attempt


def l1(attempt: Attempt) -> Tensor:
    """Absolute error, mean over an image; the root of the weight, so that it scales as `l2`'s root does."""
    return (attempt.weight.sqrt() * attempt.error.abs()).flatten(1).mean(1)
