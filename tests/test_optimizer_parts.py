"""Optimizers against their papers' formulas, written here again in float64, and against torch's own."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from dmf.core import WeightGroup, load_optimizer_state, optimizer_state, take_step
from dmf.plugins.optimizers.muon import orthogonal
from dmf.registry import build
from dmf.testing import check_part
from dmf.testing.optimizers import check_optimizer, check_passes_over

LR, STEPS = 0.01, 4
GRADIENTS = torch.randn(STEPS, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
START = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(6, 4)


def run(name: str, *, hidden: bool = False, decays: bool = True, start: Tensor = START, **options: Any) -> Tensor:
    """A weight after some steps of a part."""
    weight, rest = nn.Parameter(start.float()), nn.Parameter(torch.ones(2))
    groups = [
        WeightGroup(("w",), (weight,), LR, decays, hidden),
        WeightGroup(("b",), (rest,), LR, False, not hidden and name == "muon"),
    ]
    if name == "muon" and not hidden:
        groups[1] = WeightGroup(("m",), (nn.Parameter(torch.ones(2, 2)),), LR, False, True)
    optimizer: torch.optim.Optimizer = build("optimizer", name, **options)(groups)
    for gradient in GRADIENTS:
        weight.grad = gradient.float().reshape(start.shape)
        optimizer.step()
    return weight.detach().double()


def adam(decay: float, decoupled: bool, betas: tuple[float, float], eps: float) -> Tensor:
    """Kingma & Ba, algorithm 1; Loshchilov & Hutter, algorithm 2."""
    theta, m, v = START.clone(), torch.zeros_like(START), torch.zeros_like(START)
    for t, gradient in enumerate(GRADIENTS, 1):
        g = gradient if decoupled else gradient + decay * theta
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        theta = theta - LR * (m_hat / (v_hat.sqrt() + eps) + (decay * theta if decoupled else 0))
    return theta


@pytest.mark.parametrize(("name", "decoupled"), [("adam", False), ("adamw", True)])
def test_adam_is_the_papers(name: str, decoupled: bool) -> None:
    made = run(name, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.3)
    torch.testing.assert_close(made, adam(0.3, decoupled, (0.8, 0.95), 1e-3), rtol=0, atol=2e-6)
    torch.testing.assert_close(run(name), adam(0.0, decoupled, (0.9, 0.999), 1e-8), rtol=0, atol=2e-6)


def test_a_group_that_does_not_decay_does_not() -> None:
    for name in ("adam", "adamw", "sgd"):
        assert torch.equal(run(name, decays=False, weight_decay=0.3), run(name)), name


def descent(mu: float, nesterov: bool, dampening: float, decay: float) -> Tensor:
    """Heavy ball; Nesterov's as Sutskever et al. have it, with theta + mu v for their theta."""
    theta, v = START.clone(), torch.zeros_like(START)
    if nesterov:
        phi = theta.clone()  # the paper's point, from which it looks ahead
        for gradient in GRADIENTS:
            v = mu * v - LR * (gradient + decay * (phi + mu * v))
            phi = phi + v
        return phi + mu * v
    for gradient in GRADIENTS:
        v = mu * v + (1 - dampening) * (gradient + decay * theta)
        theta = theta - LR * v
    return theta


@pytest.mark.parametrize(
    ("mu", "nesterov", "dampening", "decay"),
    [(0.0, False, 0.0, 0.1), (0.9, False, 0.0, 0.1), (0.9, False, 0.9, 0.0), (0.9, True, 0.0, 0.1)],
)
def test_sgd_is_the_papers(mu: float, nesterov: bool, dampening: float, decay: float) -> None:
    made = run("sgd", momentum=mu, nesterov=nesterov, dampening=dampening, weight_decay=decay)
    torch.testing.assert_close(made, descent(mu, nesterov, dampening, decay), rtol=0, atol=1e-6)


def test_sgd_is_torchs() -> None:
    weight = nn.Parameter(START.float())
    optimizer = torch.optim.SGD([weight], LR, momentum=0.9, weight_decay=0.1)
    for gradient in GRADIENTS:
        weight.grad = gradient.float()
        optimizer.step()
    torch.testing.assert_close(run("sgd", weight_decay=0.1).float(), weight.detach(), rtol=0, atol=1e-7)


def muon(start: Tensor, mu: float, nesterov: bool, scale: Callable[[int, int], float], decay: float) -> Tensor:
    """Jordan et al., algorithm 2, whose iteration acts on singular values alone; Liu et al., equation 4."""
    W, B = start.flatten(1), torch.zeros_like(start.flatten(1))
    for gradient in GRADIENTS:
        G = gradient.reshape(B.shape)
        B = mu * B + G
        U, S, Vh = torch.linalg.svd(G + mu * B if nesterov else B, full_matrices=False)
        s = S / S.square().sum().sqrt()
        for _ in range(5):
            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
        W = W - LR * (scale(*W.shape) * U @ torch.diag(s) @ Vh + decay * W)
    return W.reshape(start.shape)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (3, 2, 2, 2)])
def test_muon_is_the_papers(shape: tuple[int, ...]) -> None:
    start = START.reshape(shape)
    by_rms = muon(start, 0.95, True, lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)), 0.1)
    torch.testing.assert_close(run("muon", hidden=True, start=start, weight_decay=0.1), by_rms, rtol=0, atol=2e-6)
    spectral = muon(start, 0.5, False, lambda rows, columns: math.sqrt(max(1, rows / columns)), 0.0)
    made = run("muon", hidden=True, start=start, momentum=0.5, nesterov=False, scale="spectral")
    torch.testing.assert_close(made, spectral, rtol=0, atol=2e-6)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has Muon from 2.9 on")
@pytest.mark.parametrize(("scale", "theirs"), [("rms", "match_rms_adamw"), ("spectral", "original")])
def test_muon_is_torchs(scale: str, theirs: str) -> None:
    weight = nn.Parameter(START.float())
    optimizer = torch.optim.Muon([weight], LR, weight_decay=0.1, momentum=0.95, adjust_lr_fn=theirs)
    for gradient in GRADIENTS:
        weight.grad = gradient.float()
        optimizer.step()
    made = run("muon", hidden=True, scale=scale, weight_decay=0.1)
    torch.testing.assert_close(made.float(), weight.detach(), rtol=0, atol=STEPS * LR * 0.02)  # theirs is in bfloat16


def test_what_is_not_hidden_goes_by_adamw() -> None:
    options = {"betas": (0.9, 0.95), "weight_decay": 0.3}
    assert torch.equal(run("muon", **options), run("adamw", **options))


def test_singular_values_come_near_one() -> None:
    G = torch.randn(20, 32, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(G, 5))
    assert float(values.min()) > 0.6 and float(values.max()) < 1.3
    assert torch.equal(orthogonal(torch.zeros(3, 2), 5), torch.zeros(3, 2))


@pytest.fixture
def one_rank() -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_muon_steps_sharded_weights_alike(one_rank: None) -> None:
    mesh = init_device_mesh("cpu", (1,))
    weight = nn.Parameter(distribute_tensor(START.float(), mesh, [Shard(0)]))
    rest = nn.Parameter(distribute_tensor(torch.ones(2), mesh, [Shard(0)]))
    groups = [WeightGroup(("w",), (weight,), LR, True, True), WeightGroup(("b",), (rest,), LR, False)]
    optimizer: torch.optim.Optimizer = build("optimizer", "muon", weight_decay=0.1)(groups)
    for gradient in (*GRADIENTS, GRADIENTS[0] * math.nan):
        weight.grad = distribute_tensor(gradient.float(), mesh, [Shard(0)])
        rest.grad = distribute_tensor(torch.ones(2), mesh, [Shard(0)])
        take_step(optimizer, (~gradient.isfinite().all()).float())
    assert isinstance(weight.data, DTensor) and isinstance(optimizer.state[weight]["momentum_buffer"], DTensor)
    assert torch.equal(weight.data.full_tensor().double(), run("muon", hidden=True, weight_decay=0.1))


def torch_groups(groups: Sequence[WeightGroup]) -> list[dict[str, Any]]:
    return [{"params": list(group.weights), "lr": group.lr} for group in groups]


def test_bad_steps_of_an_optimizer_that_cannot_see_them_are_left_out() -> None:
    check_optimizer(lambda groups: torch.optim.NAdam(torch_groups(groups)))


class Careless(torch.optim.SGD):
    """Says that it passes over bad steps, and does not."""

    def step(self, closure: Any = None) -> Any:
        self.__dict__.pop("found_inf", None)
        return super().step(closure)


def test_one_that_does_not_pass_over_bad_steps_is_found_out() -> None:
    def make(groups: Sequence[WeightGroup]) -> torch.optim.Optimizer:
        made = Careless(torch_groups(groups))
        made._step_supports_amp_scaling = True  # type: ignore[attr-defined]
        return made

    with pytest.raises(AssertionError, match="changes weights in a step that is bad"):
        check_passes_over(make)


def test_torchs_own_first_step_of_momentum_is_why_ours_makes_it() -> None:
    with pytest.raises(AssertionError, match="steps otherwise after 1 bad steps"):
        check_passes_over(lambda groups: torch.optim.SGD(torch_groups(groups), momentum=0.9, dampening=0.5, fused=True))
    check_part("optimizer", "sgd", momentum=0.9, dampening=0.5)


class Counting(torch.optim.SGD):
    """Keeps state in a group, as some do."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            group["weight_decay"] = 0.1 * group.setdefault("k", 0)
            group["k"] += 1
        return super().step(closure)


def test_what_a_group_counts_goes_out_and_comes_in() -> None:
    module = nn.Linear(2, 2)
    optimizer = Counting(module.parameters(), 0.1)
    for _ in range(3):
        optimizer.step()
    again = Counting(module.parameters(), 0.1)
    again.step()
    load_optimizer_state(again, module, *optimizer_state(optimizer, module))
    assert again.param_groups[0]["k"] == 3


@pytest.fixture
def two_ranks() -> Iterator[None]:
    """This process as the first of two, of which the other is not there."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    yield
    dist.destroy_process_group()


def in_parts(weights: list[Tensor]) -> list[nn.Parameter]:
    """Rank 0's of two."""
    mesh = init_device_mesh("cpu", (2,))
    return [nn.Parameter(distribute_tensor(weight, mesh, [Shard(0)], src_data_rank=None)) for weight in weights]


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_parts_of_weights_are_stepped_as_whole_ones_are(name: str, two_ranks: None) -> None:
    whole = [nn.Parameter(torch.linspace(-1, 1, 12).reshape(4, 3)), nn.Parameter(torch.ones(4))]
    parts = in_parts([weight.detach().clone() for weight in whole])
    for weights in (whole, parts):
        optimizer = build("optimizer", name)([WeightGroup(("a", "b"), tuple(weights), 0.1, True)])
        for bad in (1.0, 0.0, 1.0, 0.0):
            for weight in weights:
                weight.grad = weight.detach() ** 2 + bad
            take_step(optimizer, torch.tensor(bad))
    for one, part in zip(whole, parts, strict=True):
        assert isinstance(part, DTensor) and torch.allclose(part.to_local(), one[:2])


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "muon"])
def test_whether_a_step_is_one_kernel_can_be_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = name == "muon"

    def kernels(fused: bool | str, device: str = "cpu") -> tuple[bool, bool]:
        group = WeightGroup(("w",), (nn.Parameter(torch.ones(2, 2, device=device)),), LR, True, hidden)
        defaults = build("optimizer", name, fused=fused)([group]).defaults
        return defaults["fused"], defaults["foreach"]

    assert [kernels(fused) for fused in ("auto", True, False)] == [(True, False), (True, False), (False, True)]
    assert kernels("auto", "meta") == kernels(True, "meta") == (False, True)  # where weights are only counted
    one, two = (run(name, hidden=hidden, fused=fused) for fused in (True, False))
    assert torch.allclose(one, two, rtol=1e-6, atol=1e-7)
    monkeypatch.setattr("dmf.plugins.optimizers._groups.DEVICES", ("cuda",))
    assert kernels("auto") == (False, True)
    with pytest.raises(ValueError, match=r"no fused step of this optimizer for weights on cpu; write fused: auto"):
        kernels(True)
