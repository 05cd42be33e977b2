"""The layers that backbones share: waves, places, conditioning, patches, modulation, rotary positions."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from dmf.core import CondSpec, DataSpec, drop
from dmf.plugins.backbones._conditioning import Conditioning
from dmf.plugins.backbones._embeddings import NoiseEmbedding, image_size, positions, waves
from dmf.plugins.backbones._feed_forward import SwiGLU, feed_forward
from dmf.plugins.backbones._modulation import gated, modulate
from dmf.plugins.backbones._patches import Patches, Unpatch
from dmf.plugins.backbones._rotary import grid_turns, rotate


def test_positions_tell_every_patch_from_every_other() -> None:
    places = positions(6, 9, 32)
    assert places.shape == (54, 32)
    assert torch.cdist(places, places).fill_diagonal_(9).min() > 0.5


def test_positions_are_the_originals() -> None:
    """Entry by entry: the column's sines, its cosines, then the row's."""
    got = positions(3, 5, 12).reshape(3, 5, 12)
    for row in range(3):
        for column in range(5):
            want = [
                f(place * 10_000 ** (-i / 3)) for place in (column, row) for f in (math.sin, math.cos) for i in range(3)
            ]
            assert got[row, column].tolist() == pytest.approx(want, abs=1e-6)


def test_waves_are_the_formula() -> None:
    got = waves(torch.tensor([3.0, 999.0], dtype=torch.float64), 6)
    frequencies = torch.tensor([1.0, 10_000 ** (-1 / 3), 10_000 ** (-2 / 3)], dtype=torch.float64)
    for row, label in zip(got, (3.0, 999.0), strict=True):
        assert torch.allclose(row, torch.cat([(label * frequencies).cos(), (label * frequencies).sin()]))


def test_bfloat16_keeps_neighbouring_noise_labels_apart() -> None:
    embed = NoiseEmbedding(256, 32)
    with torch.autocast("cpu", torch.bfloat16):
        near = embed(torch.tensor([999.0, 1000.0]))
    assert (near[0] - near[1]).abs().max() > 0.02


# conditioning

VECTORS = DataSpec(
    (1, 8, 8), ("cat", "dog"), {"look.from": CondSpec("vector", (2, 3)), "keys": CondSpec("vector", (4,))}
)


def conditioning(spec: DataSpec) -> Conditioning:
    torch.manual_seed(0)
    return Conditioning(spec, 16, frequencies=8, backbone="mine")


def given(batch: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(1)
    vectors = {name: torch.randn(batch, *VECTORS.cond[name].shape, generator=draw) for name in ("look.from", "keys")}
    return {"class": torch.arange(batch) % 3, **vectors}


def test_conditioning_is_the_sum_of_its_parts() -> None:
    embed, cond, noise = conditioning(VECTORS), given(5), torch.linspace(0, 999, 5)
    assert embed.conditions is not None and embed.conditions.names == ["keys", "look.from"]
    table, (keys, look) = embed.conditions.classes, embed.conditions.vectors
    assert table is not None and table.num_embeddings == 3
    want = embed.noise(noise) + table.weight[cond["class"]]
    for part, name in ((keys, "keys"), (look, "look.from")):
        want = want + cond[name].flatten(1) @ part.map.weight.T + part.map.bias  # type: ignore[union-attr, operator]
    assert torch.allclose(embed(noise, cond), want, atol=1e-6)


def test_a_vector_that_is_not_there_is_a_learned_one_and_no_zero() -> None:
    embed, cond, noise = conditioning(VECTORS), given(4), torch.full((4,), 500.0)
    none = embed(noise, drop(cond, VECTORS, torch.tensor([True, False, True, False])))
    assert torch.equal(none[0], none[2]) and torch.equal(none[[1, 3]], embed(noise, cond)[[1, 3]])
    zeros = {**{name: torch.zeros_like(value) for name, value in cond.items()}, "class": torch.full((4,), 2)}
    assert (embed(noise, zeros)[0] - none[0]).abs().max() > 0.01
    embed(noise, drop(cond, VECTORS, torch.ones(4, dtype=torch.bool))).sum().backward()
    assert embed.conditions is not None
    assert all(part.none.grad.eq(4).all() for part in embed.conditions.vectors)  # type: ignore[union-attr, operator]


def test_without_conditions_the_noise_label_is_all() -> None:
    embed, noise = conditioning(DataSpec((1, 8, 8))), torch.linspace(0, 999, 5)
    assert embed.conditions is None and torch.equal(embed(noise, {}), embed.noise(noise))


@pytest.mark.parametrize("shape", [(), (1,), (2, 3)], ids=str)
def test_a_vector_may_have_any_shape(shape: tuple[int, ...]) -> None:
    embed = conditioning(DataSpec((1, 8, 8), cond={"angle": CondSpec("vector", shape)}))
    assert embed.conditions is not None
    (part,) = embed.conditions.vectors
    noise, value = torch.linspace(0, 999, 5), torch.randn(5, *shape)
    want = embed.noise(noise) + value.reshape(5, -1) @ part.map.weight.T + part.map.bias  # type: ignore[union-attr, operator]
    assert torch.allclose(embed(noise, {"angle": value}), want, atol=1e-6)
    assert embed(noise[:0], {"angle": value[:0]}).shape == (0, 16)


def test_a_missing_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"conditioned on keys, look\.from"):
        conditioning(VECTORS)(torch.zeros(2), {"class": torch.zeros(2, dtype=torch.int64)})


@pytest.mark.parametrize(
    ("cond", "named"),
    [
        ({"caption": CondSpec("tokens", (4, 16)), "angle": CondSpec("vector", (2,))}, r"gives caption \(tokens\);"),
        ({"style": CondSpec("class"), "words": CondSpec("tokens", (4, 16))}, r"style \(class\), words \(tokens\)"),
    ],
)
def test_what_it_does_not_take_is_named(cond: Mapping[str, CondSpec], named: str) -> None:
    with pytest.raises(ValueError, match=r"`mine` takes classes and vectors.*" + named):
        conditioning(DataSpec((1, 8, 8), ("cat",), cond))


# patches


def test_patches_are_a_convolution_that_does_not_overlap() -> None:
    patches, x = Patches(DataSpec((3, 8, 12)), 16, 4, "mine"), torch.randn(2, 3, 8, 12)
    kernel = patches.map.weight.reshape(16, 3, 4, 4)
    want = conv2d(x, kernel, patches.map.bias, stride=4).flatten(2).transpose(1, 2)
    assert (patches.rows, patches.columns) == (2, 3)
    assert torch.allclose(patches(x), want, atol=1e-5)


def test_what_was_taken_apart_is_assembled() -> None:
    x, patches = torch.randn(2, 3, 8, 12), Patches(DataSpec((3, 8, 12)), 16, 4, "mine")
    cut = [x[:, :, r : r + 4, c : c + 4].permute(0, 2, 3, 1).flatten(1) for r in (0, 4) for c in (0, 4, 8)]
    back = Unpatch(patches, 48, 3)
    assert torch.equal(back.assemble(torch.stack(cut, 1)), x)
    with torch.no_grad():
        back.map.weight.copy_(torch.eye(48)), back.map.bias.zero_()
    assert torch.allclose(back(torch.stack(cut, 1)), x, atol=1e-6)


def test_patches_say_what_they_were_built_for() -> None:
    with pytest.raises(ValueError, match=r"this mine was built for images \(3, 8, 12\); got \(3, 12, 8\)"):
        Patches(DataSpec((3, 8, 12)), 16, 4, "mine")(torch.zeros(1, 3, 12, 8))
    with pytest.raises(ValueError, match=r"`mine` takes images \(channels, height, width\); got shape \(2, 8\)"):
        image_size(DataSpec((2, 8)), "mine")


# modulation and the two-layer networks


def test_modulation_is_by_the_image() -> None:
    x, shift, scale, change = torch.randn(2, 5, 8), torch.randn(2, 8), torch.randn(2, 8), torch.randn(2, 5, 8)
    for image in range(2):
        for token in range(5):
            want = x[image, token] * (1 + scale[image]) + shift[image]
            assert torch.allclose(modulate(x, shift, scale)[image, token], want, atol=1e-6)
            want = x[image, token] + scale[image] * change[image, token]
            assert torch.allclose(gated(x, scale, change)[image, token], want, atol=1e-6)


def test_swiglu_is_equation_6() -> None:
    torch.manual_seed(0)
    network, x = SwiGLU(12, 24).double(), torch.randn(2, 5, 12, dtype=torch.float64)
    w, v = network.into.weight.reshape(2, 24, 12)
    b, c = network.into.bias.reshape(2, 24)
    a = x @ w.T + b
    want = (a / (1 + torch.exp(-a)) * (x @ v.T + c)) @ network.out.weight.T + network.out.bias
    assert torch.allclose(network(x), want)


@pytest.mark.parametrize("width", [384, 768, 1024, 1152])
def test_the_gated_network_has_about_as_many_weights(width: int) -> None:
    def count(kind: Any) -> int:
        return sum(p.numel() for p in feed_forward(kind, width, 4).parameters())

    assert count("swiglu") == pytest.approx(count("gelu"), rel=0.003)
    inner = feed_forward("swiglu", width, 4)
    assert isinstance(inner, SwiGLU) and inner.out.in_features % 8 == 0


# rotary positions


def test_rotation_is_by_complex_numbers() -> None:
    """RoFormer, equation 34, as a product: (a + ib) e^(i theta), the angle of a grid's axes by Heo et al."""
    x = torch.randn(2, 3, 15, 8, dtype=torch.float64)
    got = rotate(x, grid_turns(3, 5, 8).double())
    pairs = torch.complex(x[..., :4], x[..., 4:])
    for row in range(3):
        for column in range(5):
            angles = torch.tensor([column, column * 100**-0.5, row, row * 100**-0.5], dtype=torch.float64)
            want = pairs[:, :, 5 * row + column] * torch.exp(1j * angles)
            here = got[:, :, 5 * row + column]
            assert torch.allclose(torch.complex(here[..., :4], here[..., 4:]), want, atol=1e-6)


def test_only_the_way_between_two_patches_counts() -> None:
    """What rotary positions are for: q . k is the same wherever the pair stands, and not whatever lies between."""
    turns, draw = grid_turns(6, 7, 16), torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 16, generator=draw)

    def score(query: tuple[int, int], key: tuple[int, int]) -> float:
        at_q, at_k = (turns[:, 7 * row + column, :][:, None] for row, column in (query, key))
        return float((rotate(q[None], at_q) * rotate(k[None], at_k)).sum())

    here = score((1, 2), (3, 1))
    for row in range(3):
        for column in range(5):
            assert score((row + 1, column + 1), (row + 3, column)) == pytest.approx(here, abs=1e-4)
    others = [score((1, 2), (row, column)) for row in range(6) for column in range(7) if (row, column) != (3, 1)]
    assert min(abs(other - here) for other in others) > 1e-3
    assert score((0, 0), (0, 0)) == pytest.approx(float(q @ k), abs=1e-5)


def test_turning_keeps_lengths() -> None:
    x = torch.randn(1, 1, 42, 16)
    assert torch.allclose(rotate(x, grid_turns(6, 7, 16)).norm(dim=-1), x.norm(dim=-1), rtol=1e-5)
