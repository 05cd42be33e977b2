"""The squared error.

Source: Ho et al. 2020, "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239), equation 14.
"""

from torch import Tensor

from .base import Attempt


def l2(attempt: Attempt) -> Tensor:
    """Weighted squared error, mean over an image."""
    return (attempt.weight * attempt.error**2).flatten(1).mean(1)
