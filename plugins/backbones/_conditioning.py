"""What a backbone is told beside the image, as one vector: the noise label, the class, vectors that the data gives.

Source: Peebles & Xie 2022, "Scalable Diffusion Models with Transformers" (arXiv 2212.09748), section 3.2: the
embeddings of noise level and class are added. "None" is a learned row or vector of its own, for guidance.
"""

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor, nn

from ...core import DataSpec, complete
from ._embeddings import NoiseEmbedding


class VectorEmbedding(nn.Module):
    """A linear map of a vector, or a learned one where there is none.

    Args:
        size: Numbers in the vector.
        width: Of the result.
        neutral: Whether there always is one.
    """

    def __init__(self, size: int, width: int, neutral: bool) -> None:
        super().__init__()
        self.map = nn.Linear(size, width)
        self.none = None if neutral else nn.Parameter(0.02 * torch.randn(width))

    def forward(self, value: Tensor, given: Tensor) -> Tensor:
        """(B, *shape) and (B,) bool to (B, width)."""
        flat = value.reshape(len(value), self.map.in_features).to(self.map.weight.dtype)  # a scalar's batch is (B,)
        mapped: Tensor = self.map(flat)
        return mapped if self.none is None else torch.where(given[:, None], mapped, self.none)


class Conditions(nn.Module):
    """All that the data is conditioned on, added up: a row a class and one for none, a linear map of each vector.

    Args:
        spec: Of the data, with conditions.
        width: Of the result.
        backbone: Its name, for the message.

    Raises:
        ValueError: The data is conditioned on something of another kind, tokens for one.
    """

    def __init__(self, spec: DataSpec, width: int, backbone: str) -> None:
        super().__init__()
        _check_kinds(spec, backbone)
        self.spec = spec
        self.names = sorted(name for name, one in spec.cond.items() if one.kind == "vector")
        self.classes = nn.Embedding(spec.null_class + 1, width) if spec.classes else None
        vectors = (spec.cond[name] for name in self.names)
        # a list, for a name may hold a dot, which no name of a module may
        self.vectors = nn.ModuleList(VectorEmbedding(prod(one.shape), width, one.neutral) for one in vectors)

    def forward(self, cond: Mapping[str, Tensor]) -> Tensor:
        """The inputs of ``spec.cond`` to (B, width)."""
        inputs = complete(cond, self.spec)
        parts: list[Tensor] = [] if self.classes is None else [self.classes(inputs["class"])]
        for name, embed in zip(self.names, self.vectors, strict=True):
            parts.append(embed(inputs[name], inputs[f"{name}_given"]))
        return torch.stack(parts).sum(0)


class Conditioning(nn.Module):
    """Noise label and conditions as one vector an image.

    Args:
        spec: Of the data, with conditions or without.
        width: Of the result.
        frequencies: Width of the waves of the noise label, even.
        backbone: Its name, for the message.

    Raises:
        ValueError: The data is conditioned on something of another kind, tokens for one.
    """

    def __init__(self, spec: DataSpec, width: int, *, frequencies: int, backbone: str) -> None:
        super().__init__()
        self.noise = NoiseEmbedding(frequencies, width)
        self.conditions = Conditions(spec, width, backbone) if spec.cond else None

    def forward(self, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """Labels (B,) and the inputs of ``spec.cond`` to (B, width)."""
        embedding: Tensor = self.noise(noise)
        return embedding if self.conditions is None else embedding + self.conditions(cond)


def _check_kinds(spec: DataSpec, backbone: str) -> None:
    known = {name for name, one in spec.cond.items() if one.kind == ("class" if name == "class" else "vector")}
    others = [f"{name} ({one.kind})" for name, one in sorted(spec.cond.items()) if name not in known]
    if others:
        raise ValueError(
            f"backbone `{backbone}` takes classes and vectors, but the data also gives {', '.join(others)};"
            " choose a backbone that takes these, or a dataset without them"
        )
