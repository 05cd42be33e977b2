"""Anybody's extractor is asked for two images before the long work: what does not keep its word is found out."""

from typing import Any

import pytest
import torch
from torch import Tensor

from dmf.core import DataSpec, FeatureExtractor, probe


class Wrong(FeatureExtractor):
    """Gives what it is told to give."""

    name = "wrong"

    def __init__(self, given: Any) -> None:
        self.layers, self.given = {"pool": 4}, given

    def __call__(self, images: Tensor, layers: Any) -> Any:
        if isinstance(self.given, Exception):
            raise self.given
        return self.given

    def protocol(self) -> dict[str, str]:
        return {"features": self.name}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pool": torch.zeros(2, 5)}, r"`wrong`, layer pool: expected float32 of shape \(2, 4\).*got .* \(2, 5\)"),
        ({"pool": torch.zeros(4)}, r"got torch.float32 of shape \(4,\)"),
        ({"pool": torch.zeros(2, 4).half()}, r"expected float32 .* got torch.float16"),
        ({"pool": torch.full((2, 4), torch.nan)}, r"a feature of two ordinary images is not finite"),
        ({"other": torch.zeros(2, 4)}, r"expected a tensor of shape \(2, 4\) for two images; got NoneType"),
        (torch.zeros(2, 4), r"expected a mapping of layers to tensors; got Tensor"),
        (RuntimeError("mat1 and mat2 do not fit\nmore"), r"cannot read images of shape \(3, 8, 8\): mat1 and .* fit$"),
    ],
)
def test_an_extractor_that_does_not_keep_its_word_is_found_out(given: Any, message: str) -> None:
    probe(Wrong({"pool": torch.ones(2, 4)}), DataSpec((3, 8, 8)))
    with pytest.raises(ValueError, match=message):
        probe(Wrong(given), DataSpec((3, 8, 8)))
