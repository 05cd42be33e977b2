"""The U-Net: the published size and start, where it attends, and its mistakes."""

from typing import Any

import pytest
import torch
from backbones_kit import LETTERS, SMALL, count
from torch import nn

from dmf.core import DataSpec
from dmf.plugins.backbones.unet import Residual, UNet


def small_unet(spec: DataSpec, **options: Any) -> UNet:
    return UNet(spec, **{**SMALL["unet"], **options})


def test_every_block_starts_as_the_identity() -> None:
    network = small_unet(DataSpec((1, 8, 8), LETTERS)).eval()
    alike = [b for b in network.blocks() if isinstance(b, Residual) and isinstance(b.shortcut, nn.Identity)]
    assert {isinstance(block.attention, nn.Identity) for block in alike} == {True, False}
    for block in alike:
        h = torch.randn(2, block.norm1.num_channels, 4, 4)
        assert torch.equal(block(h, torch.randn(2, 32)), h)


def test_its_blocks_are_the_residual_ones() -> None:
    # down 1 + 1, middle 2, up 2 + 2 with one residual block a level
    assert len(small_unet(DataSpec((1, 8, 8), LETTERS)).blocks()) == 8


def test_unet_has_the_published_size() -> None:
    assert count(UNet(DataSpec((3, 32, 32)))) == 35_746_307


def test_unet_attends_where_it_is_told() -> None:
    def where(attention: tuple[int, ...]) -> list[bool]:
        network = small_unet(DataSpec((1, 8, 16)), attention=attention)
        return [not isinstance(b.attention, nn.Identity) for b in network.blocks() if isinstance(b, Residual)]

    # down 16, down 8, the middle's two, up 8 twice, up 16 twice
    assert where(()) == [False, False, True, False, False, False, False, False]
    assert where((8,)) == [False, True, True, False, True, True, False, False]
    assert where((16,)) == [True, False, True, False, False, False, True, True]


def unet_error(**options: Any) -> str:
    shape = options.pop("shape", (3, 32, 32))
    with pytest.raises(ValueError) as error:
        UNet(DataSpec(shape), **options)
    return str(error.value)


def test_unet_says_what_to_write() -> None:
    odd = unet_error(shape=(1, 28, 30))
    assert "4 levels halve the image 3 times, so its sides must be multiples of 8; got 28 x 30" in odd
    assert "at most 2 level(s), or bring the images to 32 x 32" in odd
    assert "groups 32 does not divide the 48 channels" in unet_error(base=48)
    assert "write backbone.groups: 24" in unet_error(base=48)
    assert "heads 5 does not divide 128 channels; write backbone.heads: 4" in unet_error(heads=5)
    small = unet_error(shape=(1, 8, 8))
    assert "attention at resolution 16, but the levels have 8, 4, 2, 1" in small and "backbone.attention" in small
    assert "base must be even" in unet_error(base=33, groups=33)
