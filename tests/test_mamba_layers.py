"""Mamba and Mamba-2: mamba-ssm's names, shapes and first values, and what they compute, written here once more."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from dmf.plugins.backbones.mamba import Mamba, Mamba2

LAYERS = pytest.mark.parametrize(
    "layer", [lambda: Mamba(32), lambda: Mamba2(32, head=16, state=8, chunk=8)], ids=["mamba1", "mamba2"]
)


def shapes(layer: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in layer.state_dict().items()}


def lively(layer: nn.Module) -> Any:
    """Other numbers for what starts as zero or one."""
    torch.manual_seed(2)
    for name, parameter in layer.named_parameters():
        if name.endswith("bias") or name in ("D", "norm.weight"):
            nn.init.normal_(parameter)
    return layer


def test_names_and_shapes_are_mamba_ssms() -> None:
    """mamba_ssm.Mamba(d_model=48, d_state=16, d_conv=4, expand=2): dt_rank = ceil(48 / 16) = 3, d_inner = 96."""
    assert shapes(Mamba(48)) == {
        "in_proj.weight": (192, 48),
        "conv1d.weight": (96, 1, 4),
        "conv1d.bias": (96,),
        "x_proj.weight": (3 + 2 * 16, 96),
        "dt_proj.weight": (96, 3),
        "dt_proj.bias": (96,),
        "A_log": (96, 16),
        "D": (96,),
        "out_proj.weight": (48, 96),
    }
    other = shapes(Mamba(40, state=8, conv=3, expand=3, rank=7))
    assert other["x_proj.weight"] == (7 + 2 * 8, 120) and other["conv1d.weight"] == (120, 1, 3)
    assert other["A_log"] == (120, 8) and other["dt_proj.weight"] == (120, 7)
    assert shapes(Mamba(40))["dt_proj.weight"] == (80, 3)  # the rank is rounded up


def test_names_and_shapes_are_mamba_ssms_second() -> None:
    """mamba_ssm.Mamba2(d_model=64, d_state=128, headdim=32, ngroups=2): 4 heads, z, x, B, C and dt in one map."""
    assert shapes(Mamba2(64, state=128, head=32, groups=2)) == {
        "in_proj.weight": (2 * 128 + 2 * 2 * 128 + 4, 64),
        "conv1d.weight": (128 + 2 * 2 * 128, 1, 4),
        "conv1d.bias": (128 + 2 * 2 * 128,),
        "dt_bias": (4,),
        "A_log": (4,),
        "D": (4,),
        "norm.weight": (128,),
        "out_proj.weight": (64, 128),
    }


@pytest.mark.parametrize("bias", ["dt_proj.bias", "dt_bias"])
def test_first_steps_are_log_uniform(bias: str) -> None:
    torch.manual_seed(0)
    layer = Mamba(512, state=2) if bias == "dt_proj.bias" else Mamba2(1024, head=2, state=2)
    steps = softplus(dict(layer.named_parameters())[bias].detach().double())
    assert steps.min() >= 0.999e-3 and steps.max() <= 0.1001
    place = (steps.log() - math.log(1e-3)) / math.log(100)  # uniform over 0 ... 1: three quartiles
    quartiles = place.quantile(torch.tensor([0.25, 0.5, 0.75]).double())
    assert (quartiles - torch.tensor([0.25, 0.5, 0.75])).abs().max() < 0.06


def test_first_decays() -> None:
    torch.manual_seed(0)
    one, two = Mamba(32, state=5), Mamba2(512, head=2)
    assert torch.allclose(one.A_log.exp(), torch.arange(1.0, 6).expand(64, 5))
    decays = two.A_log.exp()
    assert 1 <= decays.min() < 1.5 and 15.5 < decays.max() <= 16 and abs(decays.mean() - 8.5) < 0.6
    assert torch.equal(one.D, torch.ones(64)) and torch.equal(two.D, torch.ones(512))
    assert one.dt_proj.weight.abs().max() <= 2**-0.5 and one.dt_proj.weight.abs().max() > 0.9 * 2**-0.5


@LAYERS
def test_what_weight_decay_leaves_alone(layer: Any) -> None:
    """What mamba-ssm marks; of Mamba-1's step sizes it decays the bias."""
    names = set(layer().undecayed)
    assert names == ({"A_log", "D", "dt_bias"} if "dt_bias" in dict(layer().named_parameters()) else {"A_log", "D"})


def mamba_by_hand(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """Gu & Dao 2023, figure 3, for one row of tokens (L, width), token by token."""
    inner, state = w["A_log"].shape
    rank, taps = w["dt_proj.weight"].shape[1], w["conv1d.weight"].shape[2]
    h, seen, out = torch.zeros(inner, state).double(), torch.zeros(taps, inner).double(), []
    for token in x:
        into = w["in_proj.weight"] @ token
        seen = torch.cat([seen[1:], into[None, :inner]])
        u = silu((seen * w["conv1d.weight"][:, 0].T).sum(0) + w["conv1d.bias"])
        mixed = w["x_proj.weight"] @ u
        delta = softplus(w["dt_proj.weight"] @ mixed[:rank] + w["dt_proj.bias"])
        B, C = mixed[rank : rank + state], mixed[rank + state :]
        h = torch.exp(-delta[:, None] * w["A_log"].exp()) * h + torch.outer(delta * u, B)
        y = h @ C + w["D"] * u
        out.append(w["out_proj.weight"] @ (y * silu(into[inner:])))
    return torch.stack(out)


def mamba2_by_hand(w: dict[str, Tensor], x: Tensor, groups: int) -> Tensor:
    """Dao & Gu 2024, figure 6, for one row of tokens, token by token and head by head."""
    inner, heads = len(w["norm.weight"]), len(w["D"])
    state, taps = (len(w["conv1d.bias"]) - inner) // (2 * groups), w["conv1d.weight"].shape[2]
    head, shared = inner // heads, heads // groups
    h = torch.zeros(heads, head, state).double()
    seen, out = torch.zeros(taps, len(w["conv1d.bias"])).double(), []
    for token in x:
        into = w["in_proj.weight"] @ token
        z, xBC, dt = into[:inner], into[inner:-heads], softplus(into[-heads:] + w["dt_bias"])
        seen = torch.cat([seen[1:], xBC[None]])
        mixed = silu((seen * w["conv1d.weight"][:, 0].T).sum(0) + w["conv1d.bias"])
        u, B, C = mixed[:inner], mixed[inner : inner + groups * state], mixed[inner + groups * state :]
        y = torch.zeros(inner).double()
        for i in range(heads):
            mine, of = slice(i * head, (i + 1) * head), slice(i // shared * state, (i // shared + 1) * state)
            h[i] = torch.exp(-dt[i] * w["A_log"][i].exp()) * h[i] + dt[i] * torch.outer(u[mine], B[of])
            y[mine] = h[i] @ C[of] + w["D"][i] * u[mine]
        gated = (y * silu(z)).reshape(groups, -1)
        normal = gated / (gated.square().mean(1, keepdim=True) + 1e-5).sqrt()
        out.append(w["out_proj.weight"] @ (normal.flatten() * w["norm.weight"]))
    return torch.stack(out)


@pytest.mark.parametrize("backend", ["torch", "reference"])
@pytest.mark.parametrize("options", [{}, {"state": 5, "conv": 3, "expand": 3, "rank": 4}, {"conv": 1}])
def test_mamba_is_the_papers(backend: Any, options: dict[str, int]) -> None:
    layer = lively(Mamba(24, backend=backend, **options)).double()  # type: ignore[arg-type]
    x = torch.randn(2, 19, 24, dtype=torch.float64)
    with torch.no_grad():
        want = torch.stack([mamba_by_hand(layer.state_dict(), row) for row in x])
        assert (layer(x) - want).abs().max() <= 1e-12 * want.abs().max()


@pytest.mark.parametrize("backend", ["torch", "reference"])
@pytest.mark.parametrize("options", [{"head": 16}, {"head": 6, "groups": 4, "state": 7, "conv": 3, "chunk": 5}])
def test_mamba2_is_the_papers(backend: Any, options: dict[str, int]) -> None:
    layer = lively(Mamba2(24, backend=backend, **options)).double()  # type: ignore[arg-type]
    x = torch.randn(2, 19, 24, dtype=torch.float64)
    with torch.no_grad():
        want = torch.stack([mamba2_by_hand(layer.state_dict(), row, options.get("groups", 1)) for row in x])
        assert (layer(x) - want).abs().max() <= 1e-12 * want.abs().max()


@LAYERS
def test_no_token_sees_a_later_one_and_all_see_the_first(layer: Any) -> None:
    network = lively(layer())
    x = torch.randn(1, 30, 32, requires_grad=True)
    y = network(x)[0]
    for t in (0, 12, 29):
        (grad,) = torch.autograd.grad(y[t].square().sum(), x, retain_graph=True)
        reach = grad[0].abs().amax(1)
        assert (reach[: t + 1] > 0).all() and not reach[t + 1 :].any()


@LAYERS
@pytest.mark.parametrize("length", [1, 20])
def test_compiles_as_one_graph_with_its_gradients(layer: Any, length: int) -> None:
    network = lively(layer())
    x = torch.randn(2, length, 32, requires_grad=True)
    torch._dynamo.reset()
    results = []
    for run in (network, torch.compile(network, fullgraph=True, backend="aot_eager")):
        y = run(x)
        results.append([y, *torch.autograd.grad(y.square().sum(), [x, *network.parameters()])])
    for got, want in zip(*results, strict=True):
        assert (got - want).abs().max() <= 1e-5 * want.abs().max()


@LAYERS
def test_bfloat16_autocast_and_another_dtype(layer: Any) -> None:
    network = lively(layer())
    x = torch.randn(2, 40, 32)
    want = network(x).detach()
    with torch.autocast("cpu", torch.bfloat16):
        narrow = network(x)
    assert (narrow.float() - want).square().mean() < 0.02**2 * want.square().mean()
    narrow.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    for dtype in (torch.bfloat16, torch.float64):
        got = network.to(dtype)(x.to(dtype))
        assert got.dtype == dtype
        assert (got.double() - want).square().mean() < 0.03**2 * want.square().mean()


@LAYERS
def test_without_data(layer: Any) -> None:
    with torch.device("meta"):
        network = layer()
        y = network(torch.empty(2, 20, 32))
    y.sum().backward()
    assert y.shape == (2, 20, 32) and y.device.type == "meta"


def test_heads_that_do_not_come_out_even() -> None:
    with pytest.raises(ValueError, match=r"head 64 does not divide the 96 channels .* write head: 48"):
        Mamba2(48)
    with pytest.raises(ValueError, match="3 groups cannot share 4 heads evenly; write a divisor of 4"):
        Mamba2(32, head=16, groups=3)
    for make, names in ((Mamba, "state conv expand rank"), (Mamba2, "state conv expand head groups chunk")):
        for name in names.split():
            with pytest.raises(ValueError, match=f"^{name} is a whole number from 1 on; got 0"):
                make(32, **{name: 0})


def test_against_transformers_mamba() -> None:
    """An implementation by others, with the same names, where it is installed."""
    transformers = pytest.importorskip("transformers")
    from transformers.models.mamba.modeling_mamba import MambaMixer

    config = transformers.MambaConfig(hidden_size=24, state_size=5, conv_kernel=3, expand=2, num_hidden_layers=1)
    theirs, ours = MambaMixer(config, layer_idx=0), lively(Mamba(24, state=5, conv=3))
    assert shapes(theirs) == shapes(ours)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 19, 24)
    assert torch.allclose(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    ours.load_state_dict(theirs.state_dict())


def test_against_transformers_mamba2() -> None:
    transformers = pytest.importorskip("transformers")
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    config = transformers.Mamba2Config(
        hidden_size=24, state_size=7, conv_kernel=4, expand=2, head_dim=8, num_heads=6, n_groups=1, chunk_size=8
    )
    theirs, ours = Mamba2Mixer(config, layer_idx=0), lively(Mamba2(24, state=7, head=8, chunk=8))
    assert shapes(theirs) == shapes(ours)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 19, 24)
    assert torch.allclose(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    ours.load_state_dict(theirs.state_dict())
