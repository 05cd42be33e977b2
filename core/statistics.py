"""Mean and covariance of features: what the field's ``.npz`` files hold of a reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Statistics:
    """What is known of a reference by mean and covariance, in place of its images.

    Attributes:
        mu: Mean of the features, (D,) float64.
        sigma: Their unbiased covariance, (D, D) float64.
        images: How many there were; None where the file does not say.
        about: `FeatureMetric.protocol` of the features, extractor and layer; empty where the file does not say.
        name: What a message calls it.
        layers: Statistics of other layers that were published with these, by the layer's name.
    """

    mu: Tensor
    sigma: Tensor
    images: int | None = None
    about: Mapping[str, str] = field(default_factory=dict)
    name: str = "statistics"
    layers: Mapping[str, Statistics] = field(default_factory=dict)

    def of(self, layer: str) -> Statistics:
        """Those of a layer, where they were published with these; else these."""
        return self.layers.get(layer, self)

    def check(self, dim: int, protocol: Mapping[str, str]) -> None:
        """Accept them as those of the features that are asked for.

        Args:
            dim: Length D of those features.
            protocol: `FeatureMetric.protocol` of them; other keys of the metric's own are passed over.

        Raises:
            ValueError: They are of another length, or, where it is known, of another extractor or layer.
        """
        if len(self.mu) != dim:
            raise ValueError(f"{self.name} is of {len(self.mu)} features, and these are {dim}; give that of the same")
        other = [key for key in self.about if protocol.get(key, self.about[key]) != self.about[key]]
        if other:
            told = "; ".join(f"{key}: {self.about[key]} there, {protocol[key]} here" for key in other)
            raise ValueError(f"{self.name} was made of other features ({told}); make it anew with --write-reference")
