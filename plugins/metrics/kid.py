"""The kernel Inception distance: the kernel distance on the pooled features of Inception v3.

Source: Binkowski et al. 2018, "Demystifying MMD GANs" (arXiv 1801.01401), section 4; network, weights, resize and
subsets are torch-fidelity's, so that values equal its own.
"""

from ...core import DataSpec
from ..features.inception import Inception
from .kernel import Kernel

LAYER = "2048"
SUBSETS, SUBSET_SIZE = 100, 1000  # torch-fidelity's


class KID(Kernel):
    """Kernel Inception distance (KID): kernel distance on Inception's 2048 pooled features.

    The mean over 100 subsets of 1000 images, and under ``_sd`` the standard deviation over them. Its expectation does
    not depend on the number of images; from 1000 on it is the papers'. Other features, other subsets: ``kernel``.

    Args:
        weights: The file weights-inception-2015-12-05-6726825d.pth; null looks for it in the cache and in torch's
            folder, and downloads it otherwise, 91 MiB.
    """

    def __init__(self, *, weights: str | None = None) -> None:
        super().__init__(features=Inception(weights=weights), layer=LAYER, subsets=SUBSETS, subset_size=SUBSET_SIZE)

    def cautions(self, spec: DataSpec, images: int, reference: int | None) -> list[str]:
        """Subsets of fewer images than the papers', of either side."""
        found = super().cautions(spec, images, reference)
        for side, count in (("", images), (" images of the reference", reference)):
            if count is not None and count < SUBSET_SIZE:
                found.append(
                    f"KID is defined on subsets of {SUBSET_SIZE} images; of {count}{side} each subset has no more, and "
                    "the spread over subsets says little"
                )
        return found

    def compute(self) -> dict[str, float]:
        """``kid`` and ``kid_sd``."""
        value, sd = super().compute().values()
        return {"kid": value, "kid_sd": sd}
