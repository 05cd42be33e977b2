"""What holds for every backbone: what the interface promises, and that conditioning reaches the output.

Each has a line of small options in backbones_kit.py; what one paper says is tested in that backbone's own file.
"""

import pytest
import torch
from backbones_kit import LETTERS, SMALL, count, has_option, inputs, lively, small
from torch import nn

from dmf.core import CondSpec, DataSpec
from dmf.registry import parts

STARTS_AS_ZERO = ("dim", "dit", "unet")  # where the paper says so

NAMES = pytest.mark.parametrize("name", SMALL)
SPECS = pytest.mark.parametrize(
    "spec",
    [DataSpec((1, 8, 8), LETTERS), DataSpec((3, 8, 12)), DataSpec((4, 12, 4), ("one",))],
    ids=["seven classes", "unlabelled, wide", "one class, tall"],
)


def test_every_backbone_is_here() -> None:
    assert set(SMALL) == {part.name for part in parts("backbone")}


@NAMES
@SPECS
def test_shape_dtype_and_a_gradient_for_every_weight(name: str, spec: DataSpec) -> None:
    network = lively(small(name, spec))
    x, noise, cond = inputs(spec)
    out = network(x, noise, cond)
    assert out.shape == x.shape and out.dtype == torch.float32
    out.square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("name", STARTS_AS_ZERO)
@SPECS
def test_it_starts_as_zero(name: str, spec: DataSpec) -> None:
    assert not small(name, spec)(*inputs(spec)).any()


@NAMES
@SPECS
def test_an_image_does_not_depend_on_its_batch(name: str, spec: DataSpec) -> None:
    network = lively(small(name, spec))
    x, noise, cond = inputs(spec)
    whole = network(x, noise, cond)
    cuts = torch.split(torch.arange(6), [1, 3, 2])
    parts = [network(x[i], noise[i], {k: v[i] for k, v in cond.items()}) for i in cuts]
    assert (whole - torch.cat(parts)).abs().max() <= 1e-5 * whole.abs().max()


@NAMES
def test_noise_and_class_reach_the_output(name: str) -> None:
    network = lively(small(name, DataSpec((1, 8, 8), LETTERS)))
    x, noise, cond = inputs(network.spec)
    out = network(x, noise, cond)
    louder, other = network(x, noise + 50, cond), network(x, noise, {"class": (cond["class"] + 1) % 8})
    for changed in (louder, other):
        assert ((out - changed).flatten(1).abs().amax(1) > 1e-3 * out.abs().max()).all()


@NAMES
@SPECS
def test_weights_go_out_and_come_in(name: str, spec: DataSpec) -> None:
    first, second = lively(small(name, spec)), small(name, spec).eval()
    assert set(first.state_dict()) == {name for name, _ in first.named_parameters()}  # nothing fixed is saved
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(*inputs(spec)), second(*inputs(spec)))


@NAMES
def test_a_class_table_has_a_row_for_none(name: str) -> None:
    def rows(classes: tuple[str, ...]) -> int:
        tables = [m for m in small(name, DataSpec((1, 8, 8), classes)).modules() if isinstance(m, nn.Embedding)]
        return sum(table.num_embeddings for table in tables)

    assert rows(LETTERS) == 8 and rows(()) == 0


@NAMES
def test_blocks_are_the_bulk_of_the_network(name: str) -> None:
    network = small(name, DataSpec((1, 8, 8), LETTERS))
    blocks = network.blocks()
    assert len({id(b) for b in blocks}) == len(blocks)
    assert sum(map(count, blocks)) > 0.7 * count(network)


@NAMES
def test_compiles_as_one_graph(name: str) -> None:
    network = lively(small(name, DataSpec((1, 8, 8), LETTERS)))
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    assert torch.allclose(compiled(*inputs(network.spec)), network(*inputs(network.spec)), rtol=1e-5, atol=1e-6)


@NAMES
def test_bfloat16_autocast_agrees(name: str) -> None:
    network = lively(small(name, DataSpec((1, 8, 8), LETTERS)))
    x, noise, cond = inputs(network.spec)
    want = network(x, noise, cond)
    with torch.autocast("cpu", torch.bfloat16):
        got = network(x, noise, cond).float()
    assert (got - want).square().mean() < 0.05**2 * want.square().mean()


@NAMES
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_whole_network_in_another_dtype(name: str, dtype: torch.dtype) -> None:
    network = lively(small(name, DataSpec((1, 8, 8), LETTERS)))
    x, noise, cond = inputs(network.spec)
    want = network(x, noise, cond)
    got = network.to(dtype)(x.to(dtype), noise, cond)
    assert got.dtype == dtype
    assert (got - want).float().square().mean() < 0.05**2 * want.square().mean()


@pytest.mark.parametrize("name", [name for name in SMALL if has_option(name, "dropout")])
def test_dropout_is_for_training(name: str) -> None:
    network = lively(small(name, DataSpec((1, 8, 8), LETTERS), dropout=0.5))
    args = inputs(network.spec)
    assert torch.equal(network(*args), network(*args))
    network.train()
    assert not torch.equal(network(*args), network(*args))


@NAMES
def test_other_data_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="caption"):
        small(name, DataSpec((1, 8, 8), LETTERS, {"caption": CondSpec("tokens", (4, 16))}))
    with pytest.raises(ValueError, match=r"takes images \(channels, height, width\); got shape \(2, 8\)"):
        small(name, DataSpec((2, 8)))
