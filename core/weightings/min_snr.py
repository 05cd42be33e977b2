"""Min-SNR-gamma: the signal-to-noise ratio, cut off where images are nearly clean.

Source: Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy" (arXiv 2303.09556), section 3.4.
"""

from typing import Annotated

from annotated_types import Gt
from torch import Tensor

from ..level import Level
from .base import LossSpace


def min_snr(level: Level, space: LossSpace, *, gamma: Annotated[float, Gt(0)] = 5.0) -> Tensor:
    """min(SNR, gamma) on x0_hat.

    Args:
        level: Of the images.
        space: Not needed.
        gamma: Where the signal-to-noise ratio is cut off.
    """
    return level.log_snr.exp().clamp(max=gamma)
