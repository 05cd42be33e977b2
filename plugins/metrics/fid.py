"""The Fréchet Inception distance: the Fréchet distance on the pooled features of Inception v3.

Source: Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule" (arXiv 1706.08500), equation 6; network,
weights and resize are torch-fidelity's, so that values equal its own.
"""

from ..features.inception import Inception
from .frechet import Frechet

LAYER = "2048"


class FID(Frechet):
    """Fréchet Inception distance (FID): Fréchet distance on Inception's 2048 pooled features.

    Papers give it of 50,000 generated images (FID-50k), some of 10,000: fewer images make it larger, so values of
    unlike numbers cannot be compared. Other features: the metric ``frechet``.

    Args:
        weights: The file weights-inception-2015-12-05-6726825d.pth; null looks for it in the cache and in torch's
            folder, and downloads it otherwise, 91 MiB.
    """

    def __init__(self, *, weights: str | None = None) -> None:
        super().__init__(features=Inception(weights=weights), layer=LAYER)

    def compute(self) -> dict[str, float]:
        """``fid``."""
        (value,) = super().compute().values()
        return {"fid": value}
