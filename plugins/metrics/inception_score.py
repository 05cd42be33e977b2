"""The Inception Score: how sure a classifier is of each image, and how evenly its classes come up.

Source: Salimans et al. 2016, "Improved Techniques for Training GANs" (arXiv 1606.03498), section 4: the exponential of
the mean KL divergence of p(y|x) from p(y), over 10 splits. The order is torch-fidelity's, so that values equal its own.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from ...core import DataSpec, FeatureExtractor, FeatureMetric, Way
from ..features.inception import Inception

SEED = 2020  # of the order; torch-fidelity's
LAYERS = ("logits_unbiased", "logits")  # the first of them that the extractor has
PAPERS = ("inception", "logits_unbiased")  # whose score has the plain name
SPLIT_IMAGES = 5000  # in each split of the papers' 50,000 images


class InceptionScore(FeatureMetric):
    """Inception Score of the generated images; looks at no reference. Of other classifiers it has another name.

    The mean over the splits, and under ``_sd`` the standard deviation over them. Papers give it of 50,000 images in 10
    splits; fewer make it smaller. It lies between 1 and the number of classes.

    Args:
        features: The classifier; null is ``inception``.
        layer: Its layer of logits; null is ``logits_unbiased``, or ``logits`` where there is no such layer.
        splits: Parts of the images, of which each has a score.
    """

    better: ClassVar[Mapping[str, Way]] = {"inception_score": "higher"}

    def __init__(
        self,
        *,
        features: FeatureExtractor | None = None,
        layer: str | None = None,
        splits: Annotated[int, Ge(1)] = 10,
    ) -> None:
        classifier = Inception() if features is None else features
        super().__init__(classifier, _logits(classifier) if layer is None else layer)
        self.splits = splits
        self.logits: Tensor
        self.add_state("logits", torch.zeros(0, self.dim), "cat")

    def check(self, spec: DataSpec, images: int) -> None:
        """At least an image in each split."""
        super().check(spec, images)
        if images < self.splits:
            raise ValueError(
                f"inception_score needs an image in each of its {self.splits} splits; got {images}: give "
                f"{self.splits} or more, or write splits: {images}"
            )

    def cautions(self, spec: DataSpec, images: int, reference: int | None) -> list[str]:
        """Splits that are smaller than the papers'."""
        found, each = super().cautions(spec, images, reference), images // self.splits
        if each < SPLIT_IMAGES:
            found.append(
                f"{images} images are {each} in each split, and the papers have {SPLIT_IMAGES:,}: with fewer the score"
                " is smaller"
            )
        return found

    def protocol(self) -> dict[str, str]:
        """The classifier's own, the splits."""
        return {**super().protocol(), "splits": f"{self.splits}, in the order of RandomState({SEED}).permutation"}

    def take(self, f: Tensor, *, real: bool, labels: Tensor | None, index: Tensor | None) -> None:
        """Keep the generated images' logits."""
        if not real:
            self.append("logits", f, index)

    def compute(self) -> dict[str, float]:
        """``inception_score`` and ``inception_score_sd``, with extractor and layer after it where they are others."""
        n = len(self.logits)
        if n < self.splits:
            raise ValueError(f"inception_score needs an image in each of its {self.splits} splits; got {n}")
        order = torch.from_numpy(np.random.RandomState(SEED).permutation(n)).to(self.logits.device)
        ends = [i * n // self.splits for i in range(self.splits + 1)]
        scores = [score(self.logits[order[start:end]]) for start, end in pairwise(ends)]
        values = torch.stack(scores)
        name = self._name()
        return {name: float(values.mean()), f"{name}_sd": float(values.std(correction=0))}

    def _name(self) -> str:
        """The layer is in it where it is not the one that is taken by itself."""
        if (self.features.name, self.layer) == PAPERS:
            return "inception_score"
        taken = next((layer for layer in LAYERS if layer in self.features.layers), None)
        about = self.features.name if self.layer == taken else f"{self.features.name}_{self.layer}"
        return f"inception_score_{about}"


def score(logits: Tensor) -> Tensor:
    """The Inception Score of images, 0-d float64; from 1 to the number of classes.

    Args:
        logits: (n, classes), of each image.
    """
    log_p = logits.to(torch.float64).log_softmax(1)  # log p(y|x), (n, classes)
    p = log_p.exp()
    # section 4: exp(E_x KL(p(y|x) || p(y))), p(y) being the mean of p(y|x) over the images
    terms = p * (log_p - p.mean(0).log())
    kl = torch.where(p > 0, terms, 0).sum(1)  # 0 log 0 is 0: a p that is too small for a float has no part in it
    return kl.mean().exp()


def _logits(classifier: FeatureExtractor) -> str:
    """The classifier's layer of logits."""
    for layer in LAYERS:
        if layer in classifier.layers:
            return layer
    raise ValueError(
        f"features: inception_score reads the logits of a classifier, and `{classifier.name}` has no layer "
        f"{' or '.join(LAYERS)}; name one of {', '.join(classifier.layers)} as layer, or take another classifier"
    )
