"""DiM: who sees whom is what the scans say; the block's formulas; sizes, options, messages."""

import copy
import re
from typing import Any

import pytest
import torch
from backbones_kit import LETTERS, count, inputs, lively
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, silu

from dmf.core import DataSpec, Scan
from dmf.core.scans import Column, Hilbert, Raster, Zigzag
from dmf.plugins.backbones._rows import Row
from dmf.plugins.backbones.dim import Block, DiM
from dmf.registry import PartError, build
from dmf.registry.options import fill

GREY = DataSpec((1, 4, 6))  # two rows of three patches
OBLONG = DataSpec((2, 8, 12), LETTERS)  # four rows of six


def dim(spec: DataSpec, **options: Any) -> DiM:
    return DiM(spec, **{"hidden": 16, "depth": 1, "local": 0, **options})


def reached(network: DiM, patch: int) -> set[int]:
    """The patches whose output changes when the pixels of this one do."""
    network = lively(network).double()
    x, noise, cond = inputs(network.spec, batch=1)
    x = x.double()
    rows, columns = network.spec.shape[1] // 2, network.spec.shape[2] // 2
    row, column = divmod(patch, columns)
    other = x.clone()
    other[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] += 1
    with torch.no_grad():
        changed = (network(x, noise, cond) != network(other, noise, cond)).any(1)[0]
    return {p for p in range(rows * columns) if patch_of(changed, p, columns).any()}


def patch_of(image: Tensor, patch: int, columns: int) -> Tensor:
    row, column = divmod(patch, columns)
    return image[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]


# who sees whom


@pytest.mark.parametrize("layer", ["mamba1", "mamba2"])
@pytest.mark.parametrize("row_tokens", [0, 2])
@pytest.mark.parametrize(
    "scan", [Raster(), Raster(reverse=True), Column(), Zigzag(corner="top_right", along="columns"), Hilbert()], ids=str
)
def test_a_patch_reaches_those_after_it_in_the_scan(scan: Scan, row_tokens: int, layer: str) -> None:
    path = scan.order(4, 6).tolist()
    options = {"head": 16} if layer == "mamba2" else {}
    for patch in (0, 8, 23):
        network = dim(OBLONG, scans=(scan,), row_tokens=row_tokens, layer=layer, **options)
        assert reached(network, patch) == set(path[path.index(patch) :])


def test_two_directions_reach_everywhere() -> None:
    everywhere = set(range(24))
    for patch in (0, 8, 23):
        assert reached(dim(OBLONG, scans=(Column(),), bidirectional=True), patch) == everywhere
        assert reached(dim(OBLONG, depth=2), patch) == everywhere  # rows, then rows reversed


def test_blocks_take_the_scans_in_turn() -> None:
    """All that a patch reaches through blocks of three scans, one after the other, the fourth being the first again."""
    scans = (Raster(), Column(), Zigzag(corner="bottom_right"))
    paths = [scan.order(4, 6).tolist() for scan in scans]
    for depth in (2, 3, 4):
        for patch in (9, 14, 22):
            seen = {patch}
            for number in range(depth):
                path = paths[number % 3]
                seen = {later for p in seen for later in path[path.index(p) :]}
            assert reached(dim(OBLONG, depth=depth, scans=scans, skips=False), patch) == seen


def test_the_default_scans_are_the_papers() -> None:
    four = (Raster(), Raster(reverse=True), Column(), Column(reverse=True))
    networks = [lively(dim(OBLONG, depth=5, scans=scans)) for scans in (None, four, four[:2])]
    first, same, other = [network(*inputs(OBLONG)) for network in networks]
    assert torch.equal(first, same) and not torch.allclose(first, other)


def test_the_convolutions_see_the_patches_around() -> None:
    """Without them, the last patch of the scan reaches itself; with both of them, two patches to every side."""
    assert reached(dim(OBLONG, scans=(Raster(),)), 23) == {23}
    around = {r * 6 + c for r in (1, 2, 3) for c in (3, 4, 5)}
    before = {r * 6 + c for r in (2, 3) for c in (4, 5)}
    assert reached(dim(OBLONG, scans=(Raster(),), local=3), 23) >= around | before
    assert reached(dim(OBLONG, scans=(Raster(),), local=1), 23) == {23}


# rows


def numbered(order: Tensor, columns: int, between: int) -> tuple[Row, Tensor]:
    """A row of tokens that are their numbers: the head -1, patches theirs, learned tokens 100 and up."""
    row = Row(order, columns, 1, between)
    if row.between is not None:
        nn.init.constant_(row.between, 100.0).data += torch.arange(between)[:, None]
    tokens = torch.arange(-1.0, len(order))[None, :, None]
    return row, tokens


@pytest.mark.parametrize(
    ("scan", "between", "want"),
    [
        (Raster(), 2, [-1, 0, 1, 2, 100, 101, 3, 4, 5]),
        (Raster(), 0, [-1, 0, 1, 2, 3, 4, 5]),
        (Raster(reverse=True), 1, [-1, 5, 4, 3, 100, 2, 1, 0]),
        (Column(), 1, [-1, 0, 3, 100, 1, 4, 100, 2, 5]),
        (Zigzag(), 3, [-1, 0, 1, 2, 5, 4, 3]),
    ],
    ids=str,
)
def test_a_row_is_the_scan_with_tokens_between_its_lines(scan: Scan, between: int, want: list[float]) -> None:
    row, tokens = numbered(scan.order(2, 3), 3, between)
    assert row(tokens).flatten().tolist() == want
    assert torch.equal(row.back(row(tokens)), tokens)
    assert (row.between is None) == (100 not in want)


def test_rows_of_batches_come_back() -> None:
    for scan in (Raster(), Column(reverse=True), Hilbert()):
        row = Row(scan.order(5, 7), 7, 8, 3)
        tokens = torch.randn(3, 36, 8)
        assert torch.equal(row.back(row(tokens)), tokens)


def test_an_order_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"holds each of 0 to 3 once; got \[0, 1, 1, 3\]"):
        Row(torch.tensor([0, 1, 1, 3]), 2, 8, 0)


# the network


def rms(x: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def test_the_network_is_its_formulas() -> None:
    """Five blocks, by the weights alone: the first is outside, the fourth and fifth take what the third and second
    were given; one modulation with an offset a block; convolutions at both ends."""
    network = lively(dim(OBLONG, depth=5, local=3, scans=(Raster(),), row_tokens=0)).double()
    x, noise, cond = inputs(OBLONG)
    x = x.double()
    w = dict(network.state_dict())

    def conv(tokens: Tensor, name: str) -> Tensor:
        image = tokens.mT.reshape(6, 16, 4, 6)
        return (
            tokens + conv2d(image, w[f"{name}.conv.weight"], w[f"{name}.conv.bias"], padding=1, groups=16).flatten(2).mT
        )

    embedding = network.conditioning(noise, cond)
    heads = embedding[:, None] + w["places"][:1]
    patches = conv(network.patches(x), "local_before") + w["places"][1:]
    t = torch.cat([heads, patches], 1)
    shared = linear(silu(embedding), w["modulation.weight"], w["modulation.bias"]).chunk(3, dim=1)

    def block(number: int, t: Tensor) -> Tensor:
        shift, scale, gate = (s[:, None] + o for s, o in zip(shared, w[f"layers.{number}.offsets"], strict=True))
        return t + gate * network.layers[number].layers[0](rms(t) * (1 + scale) + shift)  # type: ignore[index, operator]

    def joined(number: int, t: Tensor, earlier: Tensor) -> Tensor:
        return linear(torch.cat([t, earlier], 2), w[f"layers.{number}.join.weight"], w[f"layers.{number}.join.bias"])

    first = block(0, t)
    second = block(1, first)
    third = block(2, second)
    fourth = block(3, joined(3, third, second))
    fifth = block(4, joined(4, fourth, first))
    last = linear(silu(embedding), w["last_modulation.weight"], w["last_modulation.bias"]).chunk(2, dim=1)
    out = rms(conv(fifth[:, 1:], "local_after")) * (1 + last[1][:, None]) + last[0][:, None]
    want = network.out(out)
    assert (network(x, noise, cond) - want).abs().max() <= 1e-9 * want.abs().max()


def test_both_directions_are_summed() -> None:
    """One row of patches, mirrored, with the two layers and the positions exchanged, gives the mirror image."""
    network = lively(dim(DataSpec((1, 2, 12)), bidirectional=True)).double()
    mirrored = copy.deepcopy(network)
    block = mirrored.layers[0]
    assert isinstance(block, Block)
    block.layers = nn.ModuleList(reversed(block.layers))
    mirrored.places.data[1:] = network.places[1:].flip(0)
    x, noise, _ = inputs(network.spec)
    patches = x.double().reshape(6, 1, 2, 6, 2)
    flipped = mirrored(patches.flip(3).reshape(x.shape), noise, {}).reshape(patches.shape).flip(3)
    assert torch.allclose(network(x.double(), noise, {}), flipped.reshape(x.shape), rtol=1e-9, atol=1e-12)


def test_every_block_starts_as_the_identity() -> None:
    """Not only the output is zero: with it alive, noise level and class still change nothing but the head token."""
    network = dim(OBLONG, depth=3, skips=False).eval()
    nn.init.normal_(network.out.map.weight)
    x, noise, cond = inputs(OBLONG)
    assert torch.equal(network(x, noise, cond), network(x, 0 * noise, {"class": 0 * cond["class"]}))


def by_backend(layer: str, dtype: torch.dtype) -> list[dict[str, Tensor]]:
    """The output and every gradient of one network, by `torch` and by `reference`."""
    options: dict[str, Any] = {"depth": 4, "local": 3, "layer": layer, "bidirectional": True}
    options |= {"head": 16} if layer == "mamba2" else {}
    spec = DataSpec((1, 24, 20), LETTERS)  # 120 patches: more than one chunk, and no multiple of one
    x, noise, cond = inputs(spec, batch=2)
    found = []
    for backend in ("torch", "reference"):
        torch.manual_seed(0)
        network = dim(spec, backend=backend, **options)
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        out = network.to(dtype)(x.to(dtype), noise, cond)
        out.square().mean().backward()
        gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
        found.append({"": out.detach(), **gradients})
    return found


@pytest.mark.parametrize("layer", ["mamba1", "mamba2"])
def test_the_backends_agree_through_the_network(layer: str) -> None:
    got, want = by_backend(layer, torch.float32)
    assert (got[""] - want[""]).abs().max() <= 1e-5 * want[""].abs().max()
    got, want = by_backend(layer, torch.float64)  # where gradients that cancel can be compared too
    for name, value in want.items():
        assert (got[name] - value).abs().max() <= 1e-10 * value.abs().max(), name


def test_its_layers_have_mamba_ssms_names() -> None:
    names = [n.removeprefix("layers.0.layers.0.") for n in dim(GREY).state_dict() if n.startswith("layers.0.layers.0.")]
    theirs = (
        "A_log D in_proj.weight conv1d.weight conv1d.bias x_proj.weight dt_proj.weight dt_proj.bias out_proj.weight"
    )
    assert sorted(names) == sorted(theirs.split())


def test_it_says_which_backend_is_in_use() -> None:
    assert dim(GREY).facts() == {"scan_backend": "torch"}
    assert dim(GREY, backend="reference").facts() == {"scan_backend": "reference"}


# sizes and options


def weights_of(d: int, depth: int, channels: int, tokens: int, classes: int) -> int:
    """Counted from the parts that the paper and Mamba's name, biases included."""
    inner, rank, state = 2 * d, -(-d // 16), 16
    mamba = (
        d * 2 * inner + 4 * inner + inner * (rank + 2 * state) + (rank + 1) * inner + inner * state + inner + inner * d
    )
    block = mamba + 3 * d + 3 * d  # offsets; three tokens between lines
    skips = depth // 2 * (2 * d * d + d)
    told = (256 + 1) * d + (d + 1) * d + ((classes + 1) * d if classes else 0)
    modulations = 3 * d * (d + 1) + 2 * d * (d + 1)
    ends = (4 * channels + 1) * d + 4 * channels * (d + 1) + 2 * 10 * d  # patches, pixels, two convolutions
    return depth * block + skips + told + modulations + ends + (tokens + 1) * d


@pytest.mark.parametrize(
    ("size", "spec", "width", "depth", "millions"),
    [
        ("S", DataSpec((3, 32, 32)), 512, 25, 50.6),
        ("L", DataSpec((4, 32, 32), tuple(map(str, range(1000)))), 1024, 49, 385.1),
        ("H", DataSpec((4, 32, 32), tuple(map(str, range(1000)))), 1536, 49, 861.0),
    ],
)
def test_presets_have_the_papers_sizes(size: Any, spec: DataSpec, width: int, depth: int, millions: float) -> None:
    """Of H 860 million are published; of the others the paper's table was not to be had, only width and depth."""
    with torch.device("meta"):
        network = DiM(spec, size=size)
    assert count(network) == weights_of(width, depth, spec.shape[0], 256, len(spec.classes))
    assert round(count(network) / 1e6, 1) == millions
    assert size != "H" or abs(count(network) / 860e6 - 1) < 0.005


def test_hidden_and_depth_take_the_place_of_the_presets() -> None:
    with torch.device("meta"):
        assert len(DiM(GREY, hidden=8).blocks()) == 25
        assert DiM(GREY, size="L", depth=2).places.shape == (7, 1024)


@pytest.mark.parametrize(
    "options",
    [
        {"depth": 3},
        {"patch": 1},
        {"layer": "mamba2", "head": 8},
        {"state": 4},
        {"conv": 4},
        {"expand": 3},
        {"scans": (Hilbert(),)},
        {"scans": (Raster(), Column(reverse=True))},
        {"bidirectional": True},
        {"local": 3},
        {"local": 5},
        {"skips": False},
        {"row_tokens": 0},
        {"row_tokens": 1},
    ],
    ids=str,
)
def test_every_option_changes_the_network(options: dict[str, Any]) -> None:
    plain, other = (lively(dim(OBLONG, **{"depth": 2, **given})) for given in ({}, options))
    assert not torch.allclose(plain(*inputs(OBLONG)), other(*inputs(OBLONG)), rtol=1e-3)


def test_scans_come_from_recipes() -> None:
    written = ["hilbert", {"name": "zigzag", "corner": "top_right"}]
    got = build("backbone", "dim", OBLONG, hidden=16, depth=2, scans=written)
    want = dim(OBLONG, depth=2, local=3, scans=(Hilbert(), Zigzag(corner="top_right")))
    assert torch.equal(lively(got)(*inputs(OBLONG)), lively(want)(*inputs(OBLONG)))
    held = fill(DiM, "backbone", {"scans": written})["scans"]
    assert held[0] == {"name": "hilbert", "reverse": False}
    assert held[1] == {"name": "zigzag", "reverse": False, "corner": "top_right", "along": "rows"}
    with pytest.raises(PartError, match="zigzag"):
        build("backbone", "dim", OBLONG, scans=["zigzog"])
    with pytest.raises(PartError, match="corner"):
        build("backbone", "dim", OBLONG, scans=[{"name": "zigzag", "corner": "middle"}])


def error(**options: Any) -> str:
    with pytest.raises(ValueError) as caught:
        dim(OBLONG, **options)
    return re.sub(r"\s+", " ", str(caught.value))


def test_it_says_what_to_write() -> None:
    assert "which is odd, or 0 for none; got 4: write backbone.local: 5" in error(local=4)
    assert "head 8 was given, but mamba1 has no heads; leave it out or write backbone.layer: mamba2" in error(head=8)
    said = "head 64 does not divide the 32 channels inside a layer (expand 2 x hidden 16); write backbone.head: 32, or"
    assert said in error(layer="mamba2")
    assert "(expand 3 x hidden 10); write backbone.head: 3, or" in error(layer="mamba2", hidden=10, expand=3, head=4)
    assert "patch 3 does not divide the image of 8 x 12; write backbone.patch: 2" in error(patch=3)
    assert "fused" in error(backend="fused")
    for option in ("hidden", "depth", "patch", "expand", "head"):
        assert error(**{option: 0}) == f"{option} is a whole number from 1 on; got 0"
    assert error(scans=()) == "scans names none; name at least one, or leave it out for the paper's four"
    assert "got -3: write backbone.local: 0" in error(local=-3)
