"""One over the root of the time.

Source: Karras et al. 2023, "Analyzing and Improving the Training Dynamics of Diffusion Models" (EDM2, arXiv
2312.02696), equation 67. Vaswani et al. 2017 (arXiv 1706.03762, equation 3) has it begin where the
warm-up ends.
"""

from ..spans import Period
from .base import Progress


def inverse_sqrt(progress: Progress, *, after: Period = 70_000) -> float:
    """1 / sqrt(max(t / t_ref, 1)): constant at first, and no end that it is laid out for.

    Args:
        progress: Where training stands.
        after: t_ref: the span, from the start of training, in which the rate stays as it is. The default is that of
            most of the paper's networks, whose batches have 2048 images.
    """
    t, t_ref = progress.images_seen, progress.images_of(after)
    # (67), alpha_ref = 1
    return float(max(t / t_ref, 1.0) ** -0.5)
