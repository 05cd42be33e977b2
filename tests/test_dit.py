"""DiT: the paper's sizes and start, each option against its formula, and its mistakes."""

import math
from typing import Any

import pytest
import torch
from backbones_kit import LETTERS, SMALL, count, inputs, lively, small
from torch import Tensor, nn

from dmf.core import CondSpec, DataSpec
from dmf.plugins.backbones._embeddings import positions
from dmf.plugins.backbones.dit import Block, DiT


def test_every_block_starts_as_the_identity() -> None:
    """Not only the last layer is zero: with that one alive, noise level and class still change nothing."""
    network = DiT(DataSpec((1, 8, 8), LETTERS), **SMALL["dit"])
    nn.init.normal_(network.out.map.weight)
    x, noise, cond = inputs(network.spec)
    assert torch.equal(network(x, noise, cond), network(x, 0 * noise, {"class": 0 * cond["class"]}))


def test_its_layers_are_its_blocks() -> None:
    network = DiT(DataSpec((1, 8, 8)), **SMALL["dit"])
    assert network.blocks() == list(network.layers) and len(network.layers) == 2


@pytest.mark.parametrize("silenced", ["attention.project", "mlp.2"])
def test_dit_drops_out_of_either_half(silenced: str) -> None:
    torch.manual_seed(0)
    block = Block(32, 4, dropout=0.5)
    for name, parameter in block.named_parameters():
        nn.init.constant_(parameter, 0) if name.startswith(silenced) else nn.init.normal_(parameter)
    x, given = torch.randn(2, 16, 32), torch.randn(2, 32)
    assert not torch.equal(block(x, given), block(x, given))
    block.eval()
    assert torch.equal(block(x, given), block(x, given))


# the paper's sizes

LATENTS = DataSpec((4, 32, 32), tuple(map(str, range(1000))))
# Peebles & Xie, table 4: millions of parameters and billions of multiply-adds of one image
TABLE_4 = {
    ("S", 8): (33, 0.36),
    ("S", 4): (33, 1.41),
    ("S", 2): (33, 6.06),
    ("B", 8): (131, 1.42),
    ("B", 4): (130, 5.56),
    ("B", 2): (130, 23.01),
    ("L", 8): (459, 5.01),
    ("L", 4): (458, 19.70),
    ("L", 2): (458, 80.71),
    ("XL", 8): (676, 7.39),
    ("XL", 4): (675, 29.05),
    ("XL", 2): (675, 118.64),
}


def on_meta(size: Any, patch: int) -> DiT:
    with torch.device("meta"):
        return DiT(LATENTS, size=size, patch=patch, learned_variance=True)


@pytest.mark.parametrize(("size", "patch"), TABLE_4)
def test_its_sizes_are_those_of_table_4(size: str, patch: int) -> None:
    """Of the weights that are learned, those of the variances among them; the fixed positions are none."""
    assert round(count(on_meta(size, patch)) / 1e6) == TABLE_4[size, patch][0]


@pytest.mark.parametrize(("size", "patch"), TABLE_4)
def test_its_work_is_that_of_table_4(size: str, patch: int) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    network = on_meta(size, patch).eval()
    counter = FlopCounterMode(display=False)
    x = torch.empty(1, 4, 32, 32, device="meta")
    with counter, torch.no_grad():
        network(x, torch.empty(1, device="meta"), {"class": torch.zeros(1, dtype=torch.int64, device="meta")})
    multiply_adds = counter.get_total_flops() / 2
    assert multiply_adds / 1e9 == pytest.approx(TABLE_4[size, patch][1], rel=0.003, abs=0.006)


def test_its_parameters_are_counted_one_by_one() -> None:
    """33 M of S/2, written out; without the variances."""
    d, channels = 384, 4
    block = 18 * d * d + 15 * d  # qkv 3, out 1, network 8, modulation 6; their biases 3 + 1 + 5 + 6
    embeddings = (4 * channels + 1) * d + (256 + 1) * d + (d + 1) * d + 1001 * d
    last = 2 * d * (d + 1) + 4 * channels * (d + 1)
    assert count(DiT(LATENTS)) == 12 * block + embeddings + last


def test_what_is_given_overrides_the_size() -> None:
    def shape(**options: Any) -> tuple[int, int, int]:
        with torch.device("meta"):
            network = DiT(DataSpec((1, 8, 8)), **options)
        return network.norm.normalized_shape[0], len(network.layers), network.layers[0].attention.heads  # type: ignore

    assert shape() == (384, 12, 6) and shape(size="B") == (768, 12, 12)
    assert shape(size="L") == (1024, 24, 16) and shape(size="XL") == (1152, 28, 16)
    assert shape(size="XL", depth=2) == (1152, 2, 16) and shape(size="B", hidden=24) == (24, 12, 12)
    assert shape(hidden=128, depth=4, heads=4) == (128, 4, 4) and shape(size="L", heads=8) == (1024, 24, 8)


# options

OPTIONS: dict[str, dict[str, Any]] = {
    "learned_variance": {"learned_variance": True},
    "qk_norm": {"qk_norm": True},
    "rms": {"norm": "rms"},
    "swiglu": {"mlp": "swiglu"},
    "rotary": {"positions": "rotary"},
    "all": {"learned_variance": True, "qk_norm": True, "norm": "rms", "mlp": "swiglu", "positions": "rotary"},
}
EACH = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def lively_dit(**options: Any) -> DiT:
    network = lively(small("dit", DataSpec((3, 8, 12), LETTERS), **options))
    assert isinstance(network, DiT)
    return network


@EACH
def test_each_option_keeps_what_the_paper_promises(options: dict[str, Any]) -> None:
    """Zero at the start, a gradient for every weight, images by themselves, the same compiled and in bfloat16."""
    assert not small("dit", DataSpec((3, 8, 12), LETTERS), **options)(*inputs(DataSpec((3, 8, 12), LETTERS))).any()
    network = lively_dit(**options)
    x, noise, cond = inputs(network.spec)
    out = network(x, noise, cond)
    assert out.shape == (6, 6 if "learned_variance" in options else 3, 8, 12)
    out.square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []
    alone = torch.cat([network(x[i : i + 1], noise[i : i + 1], {"class": cond["class"][i : i + 1]}) for i in range(6)])
    assert (out - alone).abs().max() <= 1e-5 * out.abs().max()
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    assert torch.allclose(compiled(x, noise, cond), out, rtol=1e-5, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(x, noise, cond).float()
    half = network.to(torch.bfloat16)(x.bfloat16(), noise, cond)
    assert half.dtype == torch.bfloat16
    for other in (rough, half.float()):
        assert (other - out).square().mean() < 0.05**2 * out.square().mean()


def test_variances_are_channels_behind_the_image() -> None:
    """The first half is what a network without them gives."""
    both, plain = lively_dit(learned_variance=True), lively_dit()
    state = both.state_dict()
    wide = state["out.map.weight"].reshape(2, 2, 6, -1), state["out.map.bias"].reshape(2, 2, 6)
    state["out.map.weight"], state["out.map.bias"] = wide[0][:, :, :3].flatten(0, 2), wide[1][:, :, :3].flatten()
    plain.load_state_dict(state)
    args = inputs(plain.spec)
    assert torch.allclose(both(*args)[:, :3], plain(*args), rtol=1e-5, atol=1e-5)


def normalised(value: Tensor, norm: str) -> Tensor:
    if norm == "layer":
        value = value - value.mean(-1, keepdim=True)  # the variance is then the mean square
    return value / (value.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def by_hand(block: Block, x: Tensor, given: Tensor, rows: int, columns: int, **options: Any) -> Tensor:
    """A block as the papers write it, one head at a time; numbers in float64."""
    weights = dict(block.named_parameters())

    def linear(name: str, value: Tensor) -> Tensor:
        return value @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def placed(value: Tensor) -> Tensor:  # RoFormer, equation 34, by complex numbers
        if options.get("positions") != "rotary":
            return value
        d = value.shape[-1]
        place = [(k % columns, k // columns) for k in range(rows * columns)]
        angles = torch.tensor([[axis * 100 ** (-t / (d // 4)) for axis in at for t in range(d // 4)] for at in place])
        turned = torch.complex(value[..., : d // 2], value[..., d // 2 :]) * torch.exp(1j * angles.double())
        return torch.cat([turned.real, turned.imag], -1)

    def attention(value: Tensor) -> Tensor:
        width, heads = value.shape[-1], block.attention.heads
        out, size = [], width // heads
        together = linear("attention.qkv", value)
        for head in range(heads):
            q, k, v = (together[..., i * width + head * size : i * width + (head + 1) * size] for i in range(3))
            if options.get("qk_norm"):  # Esser et al. 2024: root mean square and a learned scale
                q, k = (
                    part / (part.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weights[f"attention.{name}.weight"]
                    for part, name in ((q, "query_norm"), (k, "key_norm"))
                )
            scores = torch.einsum("bnd,bmd->bnm", placed(q), placed(k)) / math.sqrt(size)
            out.append(torch.softmax(scores, -1) @ v)
        return linear("attention.project", torch.cat(out, -1))

    def network(value: Tensor) -> Tensor:
        if options.get("mlp") == "swiglu":
            gate, rest = linear("mlp.into", value).chunk(2, -1)
            return linear("mlp.out", gate * torch.sigmoid(gate) * rest)
        h = linear("mlp.0", value)
        return linear("mlp.2", 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3))))

    beta1, gamma1, alpha1, beta2, gamma2, alpha2 = linear("modulation", given)[:, None].chunk(6, -1)
    norm = options.get("norm", "layer")
    x = x + alpha1 * attention(normalised(x, norm) * (1 + gamma1) + beta1)
    return x + alpha2 * network(normalised(x, norm) * (1 + gamma2) + beta2)


@pytest.mark.parametrize("options", [{}, *OPTIONS.values()], ids=["plain", *OPTIONS])
def test_the_network_is_the_papers_formulas(options: dict[str, Any]) -> None:
    network = lively_dit(**options).double()
    x, noise, cond = (3 * inputs(network.spec)[0].double(), *inputs(network.spec)[1:])
    embedding = nn.functional.silu(network.conditioning(noise.double(), cond))
    tokens = network.patches(x)
    if options.get("positions") != "rotary":
        tokens = tokens + positions(4, 6, 32).double()
    for layer in network.layers:
        assert isinstance(layer, Block)
        tokens = by_hand(layer, tokens, embedding, 4, 6, **options)
    shift, scale = network.modulation(embedding)[:, None].chunk(2, -1)
    want = network.out(normalised(tokens, options.get("norm", "layer")) * (1 + scale) + shift)
    got = network(x, noise.double(), cond)
    assert (got - want).abs().max() < 1e-5 * want.abs().max()  # turns are kept in float32


@pytest.mark.parametrize("kind", ["sincos", "rotary"])
def test_a_patch_knows_its_place(kind: str) -> None:
    """Without places, patches in another order come out in that order, and the same."""
    network = lively_dit(positions=kind)
    x, noise, cond = inputs(network.spec)
    out = network(x, noise, cond)
    moved = network(x.roll(2, dims=3), noise, cond).roll(-2, dims=3)
    assert (out - moved).abs().max() > 0.01 * out.abs().max()
    network.places = network.turns = None
    lost = network(x, noise, cond), network(x.roll(2, dims=3), noise, cond).roll(-2, dims=3)
    assert torch.allclose(*lost, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["sincos", "rotary"])
def test_what_blocks_add_to_is_kept_in_float32(kind: str) -> None:
    network, seen = lively_dit(positions=kind), []
    network.layers[1].register_forward_hook(lambda _, args, out: seen.extend([args[0].dtype, out.dtype]))
    with torch.autocast("cpu", torch.bfloat16):
        network(*inputs(network.spec))
    assert seen == [torch.float32, torch.float32]


def test_a_vector_and_a_class_reach_the_output() -> None:
    spec = DataSpec((1, 8, 8), LETTERS, {"angle": CondSpec("vector", (3,))})
    network = lively(small("dit", spec))
    x, noise, cond = inputs(spec)
    given = {**cond, "angle": torch.randn(6, 3)}
    out = network(x, noise, given)
    for other in ({**given, "angle": given["angle"] + 1}, {**given, "class": (cond["class"] + 1) % 8}):
        assert ((network(x, noise, other) - out).abs().flatten(1).amax(1) > 1e-3 * out.abs().max()).all()


# its mistakes


def dit_error(**options: Any) -> str:
    shape = options.pop("shape", (1, 8, 8))
    with pytest.raises(ValueError) as error:
        DiT(DataSpec(shape), **options)
    return str(error.value)


def test_dit_says_what_to_write() -> None:
    assert "patch 3 does not divide the image of 8 x 8; write backbone.patch: 2" in dit_error(patch=3)
    assert "write backbone.patch: 1 (of 1)" in dit_error(shape=(1, 8, 9))
    assert "hidden 130 is not a multiple of heads 4; write backbone.hidden: 132" in dit_error(hidden=130, heads=4)
    assert "hidden 6 is not a multiple of 4" in dit_error(hidden=6, heads=3)
    assert "write backbone.hidden: 12" in dit_error(hidden=6, heads=3)
    odd = dit_error(hidden=24, heads=4, positions="rotary")
    assert "heads of a multiple of 4 channels; hidden 24 on heads 4 gives 6: write backbone.hidden: 32" in odd
    for option in ("hidden", "depth", "heads", "patch"):
        assert dit_error(**{option: 0}) == f"{option} is a whole number from 1 on; got 0"
    assert dit_error(hidden=20) == (
        "hidden 20 is not a multiple of heads 6 (of size S); write backbone.hidden: 24, or backbone.heads: 5"
    )
    assert "heads 6 (of size S); write backbone.hidden: 132, or backbone.heads: 4" in dit_error(hidden=128)
    assert odd.endswith("write backbone.hidden: 32, or backbone.heads: 3")
    DiT(DataSpec((1, 8, 8)), hidden=24, heads=3, depth=1, positions="rotary")
    assert "of size" not in odd and "heads 6 (of size S) gives 2" in dit_error(hidden=12, positions="rotary")
    with pytest.raises(ValueError, match=r"built for images \(3, 8, 12\); got \(3, 12, 8\)"):
        DiT(DataSpec((3, 8, 12)), **SMALL["dit"])(torch.zeros(1, 3, 12, 8), torch.zeros(1), {})
