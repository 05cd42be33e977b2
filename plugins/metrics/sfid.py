"""The spatial Fréchet distance, sFID: the Fréchet distance on Inception features that are not pooled over the image.

Source: Nash et al. 2021, "Generating Images with Sparse Representations" (arXiv 2103.03841): the first 7
channels of mixed_6/conv, 17 x 17 each, 2023 features. The evaluator of Dhariwal & Nichol 2021 (arXiv 2105.05233) has
the same; the order of the features does not change the distance.
"""

from ..features.inception import Inception
from .frechet import Frechet

LAYER = "spatial"


class SFID(Frechet):
    """Spatial FID (sFID): Fréchet distance on 2023 of Inception's features that know where in the image they are.

    Papers give it of 50,000 generated images.

    Args:
        weights: The file weights-inception-2015-12-05-6726825d.pth; null looks for it in the cache and in torch's
            folder, and downloads it otherwise, 91 MiB.
    """

    def __init__(self, *, weights: str | None = None) -> None:
        super().__init__(features=Inception(weights=weights), layer=LAYER)

    def compute(self) -> dict[str, float]:
        """``sfid``."""
        (value,) = super().compute().values()
        return {"sfid": value}
