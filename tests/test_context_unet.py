"""The context U-Net: what multiplies and what adds, its vector, its sizes, its mistakes."""

from typing import Any

import pytest
import torch
from backbones_kit import LETTERS, count, inputs, lively
from torch import Tensor, nn
from torch.nn import functional

from dmf.core import CondSpec, DataSpec
from dmf.plugins.backbones.context_unet import ContextUNet, Residual


def small(spec: DataSpec, **options: Any) -> ContextUNet:
    return ContextUNet(spec, **{"width": 8, "groups": 4, **options})


def seen_by(module: nn.Module, network: ContextUNet, *args: Any) -> tuple[Tensor, ...]:
    """What goes into a module while the network runs."""
    seen: list[tuple[Tensor, ...]] = []
    handle = module.register_forward_pre_hook(lambda _, given: seen.append(given))
    network(*args)
    handle.remove()
    (only,) = seen
    return only


def steered(network: ContextUNet, stage: int, *args: Any) -> Tensor:
    """The features on the way up after class and noise level, without the skip beside them."""
    up = network.ups[stage]
    return seen_by(up.residual, network, *args)[0][:, : up.norm.num_channels]


def test_it_starts_as_zero() -> None:
    network = small(DataSpec((1, 8, 8), LETTERS))
    assert not network(*inputs(network.spec)).any()


def test_its_size() -> None:
    """Counted by hand for a grey image of 28 x 28 with ten classes: w at full size, d = 2 w below."""
    w, d, classes = 16, 32, 10

    def residual(before: int, after: int) -> int:
        shortcut = 0 if before == after else before * after + after
        return 9 * before * after + after + 9 * after * after + after + 4 * after + shortcut

    def up(skip: int, after: int, places: int) -> int:
        return places * d * d + d + 2 * d + 2 * (d * d + d) + residual(d + skip, after)

    embeddings = (128 + 1) * d + (d + 1) * d + (classes + 1) * d
    down = residual(1, w) + residual(w, d) + residual(d, d)
    network = ContextUNet(DataSpec((1, 28, 28), tuple("0123456789")), width=w)
    assert count(network) == embeddings + down + up(d, d, 49) + up(d, d, 4) + up(w, w, 4) + 9 * w + 1


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_the_class_multiplies(stage: int) -> None:
    network = lively(small(DataSpec((1, 16, 16), LETTERS)))
    for up in network.ups[: stage + 1]:  # those before too, that the two differ in this one alone
        nn.init.zeros_(up.shift.weight)
        nn.init.zeros_(up.shift.bias)
    for up in network.ups[:stage]:
        nn.init.zeros_(up.scale.weight)
    x, noise, cond = inputs(network.spec)
    one = steered(network, stage, x, noise, cond)
    other = steered(network, stage, x, noise, {"class": (cond["class"] + 1) % 8})
    factor = (one * other).sum((2, 3), keepdim=True) / other.square().sum((2, 3), keepdim=True)  # one a channel
    assert torch.allclose(one, factor * other, atol=1e-5 * one.abs().max().item())
    assert (factor - 1).abs().amax((1, 2, 3)).min() > 0.1


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_the_noise_level_adds(stage: int) -> None:
    network = lively(small(DataSpec((1, 16, 16), LETTERS)))
    for up in network.ups[:stage]:
        nn.init.zeros_(up.shift.weight)
    x, noise, cond = inputs(network.spec)
    change = steered(network, stage, x, noise + 50, cond) - steered(network, stage, x, noise, cond)
    mean = change.mean((2, 3), keepdim=True)  # one number a channel
    assert torch.allclose(change, mean.expand_as(change), atol=1e-5 * mean.abs().max().item())
    assert mean.abs().amax((1, 2, 3)).min() > 0.1


def test_a_step_up_is_its_formula() -> None:
    """Written with functions alone: enlarged, normalised, times 1 + A class + plus B level, beside the skip."""
    network = lively(small(DataSpec((1, 10, 6), LETTERS)))
    up = network.ups[1].double()
    draw = torch.Generator().manual_seed(3)
    x, skip = (torch.randn(2, 16, *side, generator=draw).double() for side in ((3, 2), (5, 3)))
    level, context = (torch.randn(2, 16, generator=draw).double() for _ in range(2))
    h = torch.einsum("bchw,cdij->bdhiwj", x, up.enlarge.weight).reshape(2, 16, 6, 4) + up.enlarge.bias.view(-1, 1, 1)
    h = functional.group_norm(h[:, :, :5, :3], 4, up.norm.weight, up.norm.bias)
    h = h * torch.sigmoid(h)
    factor = 1 + context @ up.scale.weight.T + up.scale.bias
    h = factor[:, :, None, None] * h + (level @ up.shift.weight.T + up.shift.bias)[:, :, None, None]
    assert torch.allclose(up(x, skip, level, context), up.residual(torch.cat([h, skip], 1)))


def test_a_residual_block_is_its_formula() -> None:
    block = Residual(2, 4, 2, 0.0)
    torch.manual_seed(0)
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(3, 2, 5, 4)
    h = functional.conv2d(x, block.conv1.weight, block.conv1.bias, padding=1)
    h = functional.silu(functional.group_norm(h, 2, block.norm1.weight, block.norm1.bias))
    h = functional.conv2d(h, block.conv2.weight, block.conv2.bias, padding=1)
    h = functional.silu(functional.group_norm(h, 2, block.norm2.weight, block.norm2.bias))
    short = functional.conv2d(x, block.shortcut.weight, block.shortcut.bias)
    assert torch.allclose(block(x), short + h, atol=1e-5)


SIDES = {
    # height, width: vectors in the bottleneck
    (1, 1): (1, 1),
    (3, 2): (1, 1),
    (28, 28): (1, 1),
    (29, 27): (2, 1),
    (32, 32): (2, 2),
    (64, 30): (3, 2),
}


@pytest.mark.parametrize("size", SIDES, ids=str)
def test_any_size_with_a_vector_for_each_window(size: tuple[int, int]) -> None:
    network = lively(small(DataSpec((3, *size), LETTERS)))
    x, noise, cond = inputs(network.spec, 2)
    assert network(x, noise, cond).shape == x.shape
    pooled, skip = seen_by(network.ups[0], network, x, noise, cond)[:2]
    assert pooled.shape[2:] == SIDES[size]
    rows, columns = network.window
    for i in range(pooled.shape[2]):
        for j in range(pooled.shape[3]):
            area = skip[:, :, rows * i : rows * (i + 1), columns * j : columns * (j + 1)]
            assert torch.allclose(pooled[:, :, i, j], functional.silu(area.mean((2, 3))), atol=1e-5)


@pytest.mark.parametrize(("window", "places"), {4: (1, 1), 9: (2, 2), 28: (5, 6), 1000: (15, 23)}.items())
def test_a_window_is_no_larger_than_it_was_asked_for(window: int, places: tuple[int, int]) -> None:
    """A place is 4 pixels: 60 are 15, in 3 windows of 7 or fewer places 5 each; 90 are 23, in 4 windows 6."""
    assert small(DataSpec((1, 60, 90)), window=window).window == places


def test_far_places_meet_in_the_vector_alone() -> None:
    network = lively(small(DataSpec((1, 100, 8)), window=100))
    x, noise, cond = inputs(network.spec, 2)
    other = x.clone()
    other[:, :, 0, 0] += 5
    far = (..., slice(-8, None), slice(None))

    def moved() -> float:
        return (network(x, noise, cond) - network(other, noise, cond))[far].abs().max().item()

    with_groups = moved()
    for module in network.modules():  # these too see the whole image
        if isinstance(module, nn.GroupNorm):
            module.forward = lambda h: h  # type: ignore[method-assign]
    assert with_groups > 0 and moved() > 0
    nn.init.zeros_(network.ups[0].enlarge.weight)
    assert moved() == 0


def test_data_without_classes_has_nothing_to_multiply_with() -> None:
    network = small(DataSpec((1, 8, 8)))
    assert network.context is None and all(up.scale is None for up in network.ups)


def test_a_vector_multiplies_too() -> None:
    spec = DataSpec((1, 8, 8), LETTERS, {"pose": CondSpec("vector", (3,))})
    network = lively(small(spec))
    x, noise, cond = inputs(spec)
    one, other = (network(x, noise, {**cond, "pose": torch.full((6, 3), v)}) for v in (0.0, 1.0))
    assert (one - other).abs().max() > 1e-3 * one.abs().max()


def test_all_residual_blocks_are_its_blocks() -> None:
    network = small(DataSpec((1, 8, 8)))
    assert network.blocks() == [network.into, *network.downs, *network.ups]


def test_it_says_what_to_write() -> None:
    with pytest.raises(ValueError, match=r"width 30 is not a multiple of groups 8; write backbone.width: 32"):
        ContextUNet(DataSpec((1, 8, 8)), width=30)
    with pytest.raises(ValueError, match=r"or backbone.groups: 2$"):
        ContextUNet(DataSpec((1, 8, 8)), width=30)
    with pytest.raises(ValueError, match=r"built for images \(3, 8, 12\); got \(3, 12, 8\)"):
        small(DataSpec((3, 8, 12)))(torch.zeros(1, 3, 12, 8), torch.zeros(1), {})
    with pytest.raises(ValueError, match=r"1 x 1 pixels each of the 8 groups of 8 .*; write backbone.width: 16$"):
        ContextUNet(DataSpec((1, 1, 1)), width=8)
    with pytest.raises(ValueError, match=r"groups is a whole number from 1 on; got 0"):
        ContextUNet(DataSpec((1, 8, 8)), groups=0)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 1)], ids=str)
@pytest.mark.parametrize("groups", [1, 4])
def test_no_group_is_one_number(shape: tuple[int, ...], groups: int) -> None:
    """The narrowest network that is built for such an image still tells an image from another, one at a time too."""
    network = lively(ContextUNet(DataSpec(shape), width=groups * 2 // shape[1], groups=groups))
    x, noise, cond = inputs(network.spec, 2)
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            module.register_forward_hook(lambda norm, _, out: seen.append((out - norm.bias[:, None, None]).abs().max()))
    seen: list[Tensor] = []
    network(x[:1], noise[:1], cond)
    assert len(seen) == 15 and min(seen) > 1e-3
