"""The scans against loops written here from the papers, against each other, and at their extremes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from dmf.plugins.backbones.mamba import chunked, selective_scan, state_space_dual

Scan = Callable[..., Tensor]
LENGTHS = pytest.mark.parametrize("length", [1, 2, 7, 16, 17, 63, 64, 65, 100, 257])
PRECISIONS = pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])


def draws(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    draw = torch.Generator().manual_seed(len(shapes))
    return [torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype) for shape in shapes]


def selective_inputs(length: int, dtype: torch.dtype, batch: int = 2, width: int = 6, state: int = 3) -> dict[str, Any]:
    row, mixed = (batch, width, length), (batch, state, length)
    u, delta, A, B, C, D, z, bias = draws(row, row, (width, state), mixed, mixed, (width,), row, (width,), dtype=dtype)
    given = {"u": u, "delta": delta, "A": -A.abs(), "B": B, "C": C, "D": D, "z": z, "delta_bias": bias}
    return {**given, "delta_softplus": True}


def dual_inputs(length: int, dtype: torch.dtype, groups: int = 2, batch: int = 2, heads: int = 4) -> dict[str, Any]:
    row, shared, head, p, n = (batch, length, heads), (batch, length, groups), (heads,), 5, 3
    x, dt, A, B, C, D, z, bias = draws(
        (*row, p), row, head, (*shared, n), (*shared, n), head, (*row, p), head, dtype=dtype
    )
    given = {"x": x, "dt": dt, "A": -A.abs(), "B": B, "C": C, "D": D, "z": z, "dt_bias": bias}
    return {**given, "dt_softplus": True, "chunk": 16}


BOTH = pytest.mark.parametrize(
    ("scan", "inputs"), [(selective_scan, selective_inputs), (state_space_dual, dual_inputs)], ids=["selective", "dual"]
)


def apart(got: Sequence[Tensor], want: Sequence[Tensor]) -> float:
    """The largest difference of each, relative to the largest number of its kind; of all, the largest."""
    ratios = [(g.double() - w.double()).abs().max() / w.double().abs().max() for g, w in zip(got, want, strict=True)]
    return max(float(r) for r in ratios)


def gradients(scan: Scan, given: dict[str, Any], backend: str) -> list[Tensor]:
    """The output, and the gradients of all tensors by a fixed random direction."""
    leaves = {k: v.clone().requires_grad_() for k, v in given.items() if isinstance(v, Tensor)}
    y = scan(**{**given, **leaves}, backend=backend)
    (direction,) = draws(tuple(y.shape), dtype=y.dtype)
    return [y.detach(), *torch.autograd.grad(y, list(leaves.values()), direction)]


def silu(x: Any) -> Any:
    return x / (1 + np.exp(-x))


def selective_by_hand(given: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Gu & Dao 2023, algorithm 2, a number at a time."""
    u, delta, A, B, C, D, z, bias = (v.double().numpy() for v in given.values() if isinstance(v, Tensor))
    y = np.zeros_like(u)
    for b, d in np.ndindex(u.shape[:2]):
        h = np.zeros(A.shape[1])
        for t in range(u.shape[2]):
            step = np.log1p(np.exp(delta[b, d, t] + bias[d]))
            h = np.exp(step * A[d]) * h + step * B[b, :, t] * u[b, d, t]
            y[b, d, t] = (C[b, :, t] @ h + D[d] * u[b, d, t]) * silu(z[b, d, t])
    return y


def dual_by_hand(given: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Dao & Gu 2024 the other way, section 3.1: y = M x with M_ts = C_t (a_t ... a_{s+1}) B_s dt_s."""
    x, dt, A, B, C, D, z, bias = (v.double().numpy() for v in given.values() if isinstance(v, Tensor))
    y = np.zeros_like(x)
    shared = x.shape[2] // B.shape[2]
    for b, t, h in np.ndindex(x.shape[:3]):
        step = np.log1p(np.exp(dt[b, :, h] + bias[h]))
        for s in range(t + 1):
            decay = np.prod(np.exp(step[s + 1 : t + 1] * A[h]))
            y[b, t, h] += C[b, t, h // shared] @ B[b, s, h // shared] * decay * step[s] * x[b, s, h]
        y[b, t, h] = (y[b, t, h] + D[h] * x[b, t, h]) * silu(z[b, t, h])
    return y


@pytest.mark.parametrize("backend", ["reference", "torch"])
@PRECISIONS
@pytest.mark.parametrize("length", [1, 5, 17, 40])
def test_against_the_papers_by_hand(length: int, dtype: torch.dtype, bound: float, backend: Any) -> None:
    one, two = selective_inputs(length, dtype), dual_inputs(length, dtype)
    assert apart([selective_scan(**one, backend=backend)], [torch.from_numpy(selective_by_hand(one))]) <= bound
    assert apart([state_space_dual(**two, backend=backend)], [torch.from_numpy(dual_by_hand(two))]) <= bound


@BOTH
@PRECISIONS
@LENGTHS
def test_chunks_equal_the_recurrence_and_so_do_their_gradients(
    scan: Scan, inputs: Any, length: int, dtype: torch.dtype, bound: float
) -> None:
    given = inputs(length, dtype)
    assert apart(gradients(scan, given, "torch"), gradients(scan, given, "reference")) <= bound


@PRECISIONS
@pytest.mark.parametrize("numbers", [1, 20 * 18, 40 * 18])
@pytest.mark.parametrize("length", [17, 40, 100])
def test_segments_and_pieces_of_the_batch(
    monkeypatch: pytest.MonkeyPatch, length: int, numbers: int, dtype: torch.dtype, bound: float
) -> None:
    """What a large input is cut into, on a small one: 16, 20 or 40 tokens a segment, one image or two at once."""
    monkeypatch.setattr(chunked, "NUMBERS_CPU", numbers)
    given = selective_inputs(length, dtype, batch=3)
    assert chunked.plan(length, 18, "cpu").segments == -(-length // max(16, numbers // 18))
    assert apart(gradients(selective_scan, given, "torch"), gradients(selective_scan, given, "reference")) <= bound


@BOTH
def test_gradients_against_finite_differences(scan: Scan, inputs: Any) -> None:
    given = {
        k: v.requires_grad_() if isinstance(v, Tensor) else v for k, v in inputs(5, torch.float64, batch=1).items()
    }
    names = [k for k, v in given.items() if isinstance(v, Tensor)]

    def of(*tensors: Tensor) -> Tensor:
        return scan(**{**given, **dict(zip(names, tensors, strict=True)), "backend": "torch"})

    assert torch.autograd.gradcheck(of, [given[k] for k in names])


@BOTH
@pytest.mark.parametrize("strength", ["strong", "mixed", "none", "weak and strong by turns"])
def test_long_rows_of_any_decay(scan: Scan, inputs: Any, strength: str) -> None:
    """4096 tokens; a decay of exp(-50) a token is 0 in float32 after two, and without any, states add up to the end."""
    given = inputs(4096, torch.float32, batch=1)
    given = {k: v for k, v in given.items() if k not in ("D", "z", "delta_bias", "dt_bias") and "softplus" not in k}
    steps = "delta" if "delta" in given else "dt"
    draw = torch.rand(given[steps].shape, generator=torch.Generator().manual_seed(3))
    turns = (torch.arange(4096) // 3 % 2).float().reshape([-1 if n == 4096 else 1 for n in draw.shape])
    decays = {
        "strong": 50 + 0 * draw,
        "mixed": 50 * draw,
        "none": 1 + 0 * draw,
        "weak and strong by turns": 0.2 + 50 * turns + 0 * draw,
    }
    given[steps] = decays[strength]
    given |= {"chunk": 64} if "chunk" in given else {}  # where sums reach 3000
    given["A"] = 0 * given["A"] if strength == "none" else -torch.ones_like(given["A"])
    got, want = gradients(scan, given, "torch"), gradients(scan, {k: _double(v) for k, v in given.items()}, "reference")
    assert all(g.isfinite().all() for g in got)
    assert apart(got, want) <= 1e-5


def _double(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) else value


@BOTH
def test_narrow_inputs_are_computed_in_float32(scan: Scan, inputs: Any) -> None:
    given = {k: v.bfloat16() if isinstance(v, Tensor) else v for k, v in inputs(40, torch.float32).items()}
    got = scan(**given, backend="torch")
    want = scan(**{k: v.float() if isinstance(v, Tensor) else v for k, v in given.items()}, backend="torch")
    assert got.dtype == torch.bfloat16 and torch.equal(got, want.bfloat16())


@BOTH
@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_autocast_stays_outside(scan: Scan, inputs: Any, backend: str) -> None:
    given = inputs(40, torch.float32)
    want = gradients(scan, given, backend)
    with torch.autocast("cpu", torch.bfloat16):
        got = gradients(scan, given, backend)
    # what belongs to a product of matrices is bfloat16 in a backward pass inside autocast; the scan's own is not
    assert torch.equal(got[0], want[0])
    if scan is selective_scan:
        assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))


class Largest(TorchDispatchMode):
    """The most numbers that any one array had."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, tuple | list) else [out]:
            self.numbers = max(self.numbers, t.numel() if isinstance(t, Tensor) else 0)
        return out


@BOTH
def test_memory_is_linear_in_the_length(scan: Scan, inputs: Any) -> None:
    def kept(length: int) -> int:
        given = {
            k: v.requires_grad_() if isinstance(v, Tensor) else v for k, v in inputs(length, torch.float32).items()
        }
        stores: dict[int, int] = {}

        def note(t: Tensor) -> Tensor:
            stores[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with saved_tensors_hooks(note, lambda t: t):
            scan(**given, backend="torch").sum()
        return sum(stores.values())

    assert kept(4096) <= 2.2 * kept(2048)


def test_no_array_is_quadratic_in_the_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "NUMBERS_CPU", 2**40)  # not even if a segment could be as long as it likes

    def largest(length: int) -> list[int]:
        one, two = selective_inputs(length, torch.float32), dual_inputs(length, torch.float32)
        u, delta, A, B, C = (one[k] for k in ("u", "delta", "A", "B", "C"))
        with Largest() as forward:  # an operator hides its arrays: its function is called as it is
            y, starts = chunked._forward._init_fn(u, delta, A, B, C)
        with Largest() as backward:
            chunked._backward._init_fn(y, u, delta, A, B, C, starts)
        with Largest() as dual:
            state_space_dual(**two, backend="torch")
        return [forward.numbers, backward.numbers, dual.numbers]

    assert all(b <= 2.2 * a for a, b in zip(largest(1024), largest(2048), strict=True))


def test_the_operator_keeps_torchs_rules() -> None:
    """Schema, shapes without data, gradients, tracing: torch's own checks."""
    given = selective_inputs(21, torch.float32)
    args = [given[k].requires_grad_() for k in ("u", "delta", "A", "B", "C")]
    torch.library.opcheck(torch.ops.dmf.selective_scan.default, args)
    rows = [t.detach().transpose(1, 2).contiguous().transpose(1, 2) if t.ndim == 3 else t for t in args]
    torch.library.opcheck(torch.ops.dmf.selective_scan.default, rows)


def test_flops_are_counted() -> None:
    one, two = selective_inputs(32, torch.float32), dual_inputs(32, torch.float32, groups=1)
    with FlopCounterMode(display=False) as forward:
        selective_scan(**one, backend="torch")
    assert forward.get_total_flops() == 4 * 2 * 6 * 3 * 32  # B, D, N, L: into the state and out of it
    with FlopCounterMode(display=False) as both:
        gradients(selective_scan, one, "torch")
    assert both.get_total_flops() == 3 * forward.get_total_flops()
    with FlopCounterMode(display=False) as dual:
        state_space_dual(**two, backend="torch")
    # b, l, h, p, n = 2, 32, 4, 5, 3 in chunks of 16: scores, diagonal blocks, into the state and out of it
    assert dual.get_total_flops() == 2 * 2 * 32 * (16 * 3 + 16 * 4 * 5 + 2 * 3 * 4 * 5)


@BOTH
def test_options_may_be_left_out(scan: Scan, inputs: Any) -> None:
    given = inputs(20, torch.float64)
    bare = {k: v for k, v in given.items() if k not in ("D", "z", "delta_bias", "dt_bias") and "softplus" not in k}
    steps = "delta" if "delta" in given else "dt"
    bare[steps] = bare[steps].abs()
    for name in given.keys() - bare.keys():
        some = {**bare, name: given[name]}
        got = scan(**some, backend="torch")
        assert apart([got], [scan(**some, backend="reference")]) <= 1e-12
        assert apart([got], [scan(**bare, backend="torch")]) > 1e-3


@pytest.mark.parametrize("name", ["delta", "A", "B", "C", "D", "z", "delta_bias"])
def test_wrong_shapes_are_named(name: str) -> None:
    given = selective_inputs(20, torch.float32)
    given[name] = given[name][..., :-1]
    with pytest.raises(ValueError, match=rf"^(A|B|{name}) goes with the other arguments in shape \(.*\); got \("):
        selective_scan(**given)


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_sizes_below_one_are_named(backend: str) -> None:
    """Not divided by, nor left to a message from inside."""
    one, two = selective_inputs(20, torch.float32), dual_inputs(20, torch.float32)
    rows, mixed = one | {k: one[k][..., :0] for k in ("u", "delta", "z", "B", "C")}, one["B"][:, :0]
    with pytest.raises(ValueError, match="L is a whole number from 1 on; got 0"):
        selective_scan(**rows, backend=backend)
    with pytest.raises(ValueError, match="N is a whole number from 1 on; got 0"):
        selective_scan(**{**one, "A": one["A"][:, :0], "B": mixed, "C": mixed}, backend=backend)
    for chunk in (0, -1):
        with pytest.raises(ValueError, match=f"chunk is a whole number from 1 on; got {chunk}"):
            state_space_dual(**{**two, "chunk": chunk}, backend=backend)
    for size, axis, names in (
        ("l", 1, ("x", "dt", "z", "B", "C")),
        ("g", 2, ("B", "C")),
        ("n", 3, ("B", "C")),
        ("p", 3, ("x", "z")),
    ):
        with pytest.raises(ValueError, match=f"^{size} is a whole number from 1 on; got 0"):
            state_space_dual(**two | {k: two[k].narrow(axis, 0, 0) for k in names}, backend=backend)


def test_groups_that_do_not_share_evenly() -> None:
    given = dual_inputs(20, torch.float32)
    three = given["B"].repeat(1, 1, 2, 1)[:, :, :3]
    with pytest.raises(ValueError, match="3 groups of B and C cannot share 4 heads evenly; take a divisor of 4"):
        state_space_dual(**{**given, "B": three, "C": three})
    with pytest.raises(ValueError, match=r"dt goes with .* \(2, 20, 4\); got \(2, 19, 4\)"):
        state_space_dual(**{**given, "dt": given["dt"][:, 1:]})


def test_no_second_gradients_from_chunks_but_from_the_recurrence() -> None:
    given = selective_inputs(9, torch.float64)
    u = given["u"].requires_grad_()
    for backend in ("torch", "reference"):
        y = selective_scan(**given, backend=backend)  # type: ignore[arg-type]
        (first,) = torch.autograd.grad(y.square().sum(), u, create_graph=True)
        if backend == "torch":
            with pytest.raises(RuntimeError, match="no autograd formula"):
                first.sum().backward()
        else:
            assert torch.autograd.grad(first.sum(), u)[0].abs().max() > 0
