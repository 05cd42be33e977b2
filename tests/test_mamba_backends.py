"""Which backend is used, what is said where one cannot be, and what the fused kernels are given.

Modules of mamba-ssm's names stand in for it, with its functions' exact parameters, and compute by the recurrence, so
none of this wants a GPU but `test_the_kernels_themselves`, which wants mamba-ssm too.
"""

import importlib.util
import inspect
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dmf.plugins.backbones.mamba import Mamba, Mamba2, fused, resolve, selective_scan, state_space_dual

TRIAL = fused._trial
CUDA, CPU = torch.device("cuda"), torch.device("cpu")
LAYERS = pytest.mark.parametrize("layer", ["mamba1", "mamba2"])
HOW = r"MAMBA_KEEP_CUDA_BUILD=TRUE MAMBA_FORCE_BUILD=TRUE pip install --no-build-isolation 'mamba-ssm>=2.3'"


def selective_scan_fn(  # as in mamba-ssm 2.3.2
    u: Any,
    delta: Any,
    A: Any,
    B: Any,
    C: Any,
    D: Any = None,
    z: Any = None,
    delta_bias: Any = None,
    delta_softplus: Any = False,
    return_last_state: Any = False,
) -> Tensor:
    assert {t.dtype for t in (A, D, delta_bias) if t is not None} == {torch.float32}
    assert len({t.dtype for t in (u, delta, B, C, z) if t is not None}) == 1
    assert all(t.stride(-1) == 1 for t in (u, delta, B, C, z) if t is not None) and not return_last_state
    return selective_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus, backend="reference")


def mamba_chunk_scan_combined(  # as in mamba-ssm 2.3.2
    x: Any,
    dt: Any,
    A: Any,
    B: Any,
    C: Any,
    chunk_size: Any,
    D: Any = None,
    z: Any = None,
    dt_bias: Any = None,
    initial_states: Any = None,
    seq_idx: Any = None,
    cu_seqlens: Any = None,
    dt_softplus: Any = False,
    dt_limit: Any = (0.0, float("inf")),
    return_final_states: Any = False,
    return_varlen_states: Any = False,
) -> Tensor:
    assert {t.dtype for t in (A, D, dt_bias) if t is not None} == {torch.float32}
    assert (initial_states, seq_idx, cu_seqlens, dt_limit) == (None, None, None, (0.0, float("inf")))
    assert not return_final_states and not return_varlen_states
    assert chunk_size in (8, 64)  # 64 when it is tried; all tests here ask for 8
    more: dict[str, Any] = {"D": D, "z": z, "dt_bias": dt_bias, "dt_softplus": dt_softplus}
    return state_space_dual(x, dt, A, B, C, chunk=chunk_size, **more, backend="reference")


def as_a_kernel(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """One node of autograd, like the real ones, that does its work in a thread: inside an operator autograd is off."""

    def tensors(args: Any) -> list[Tensor]:
        return [a for a in args if isinstance(a, Tensor)]

    def differentiate(args: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        leaves = [a.detach().requires_grad_() if isinstance(a, Tensor) else a for a in args]
        grads = iter(torch.autograd.grad(function(*leaves), tensors(leaves), grad))
        return tuple(next(grads) if isinstance(a, Tensor) else None for a in args)

    class Kernel(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *args: Any) -> Tensor:
            ctx.args = args
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(lambda: function(*args).detach()).result()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Any:
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(differentiate, ctx.args, grad).result()

    def call(*args: Any, **kwargs: Any) -> Tensor:
        bound = inspect.signature(function).bind(*args, **kwargs)
        bound.apply_defaults()
        out: Tensor = Kernel.apply(*bound.arguments.values())
        return out

    return call


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Put modules of these names, each with one function, into the place of mamba-ssm; one may be an exception."""

    def put(selective: Any = selective_scan_fn, dual: Any = mamba_chunk_scan_combined) -> None:
        monkeypatch.setattr(fused, "installed", lambda: True)
        for (path, name), function in zip(fused.KERNELS.values(), (selective, dual), strict=True):
            parts = path.split(".")
            for end in range(1, len(parts) + 1):
                monkeypatch.setitem(sys.modules, ".".join(parts[:end]), ModuleType(".".join(parts[:end])))
            if function is not None:
                setattr(sys.modules[path], name, as_a_kernel(function))

    TRIAL.cache_clear()
    yield put
    TRIAL.cache_clear()


def there_is_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as the choice can tell; a kernel is tried on the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(fused, "_trial", lambda layer, device: TRIAL(layer, CPU))


@LAYERS
def test_what_is_asked_for_is_used(layer: Any) -> None:
    assert resolve("torch", layer, CUDA) == "torch" and resolve("reference", layer, CUDA) == "reference"
    assert resolve("auto", layer, CPU) == resolve("auto", layer, torch.device("meta")) == "torch"
    with pytest.raises(ValueError, match="backend is one of auto, fused, torch, reference; got 'triton'"):
        resolve("triton", layer, CPU)  # type: ignore[arg-type]


@LAYERS
def test_kernels_that_run_are_used_on_cuda(layer: Any, install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    there_is_cuda(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolve("auto", layer, CUDA) == resolve("fused", layer, CUDA) == "fused"
        assert resolve("auto", layer, CPU) == "torch"
    with pytest.raises(
        ValueError, match="run on CUDA devices alone, and these tensors are on cpu; or write backend: auto"
    ):
        resolve("fused", layer, CPU)


@pytest.mark.parametrize("make", [Mamba, Mamba2])
def test_without_mamba_ssm(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "installed", lambda: False)
    with pytest.raises(ValueError) as caught:
        make(64, backend="fused")
    assert "backend fused cannot be used: mamba-ssm is not installed; install it" in str(caught.value)
    assert HOW in str(caught.value) and str(caught.value).endswith("or write backend: auto")
    there_is_cuda(monkeypatch)
    assert resolve("auto", "mamba1", CUDA) == "torch"


def test_without_cuda(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="CUDA devices alone, and this machine has none"):
        Mamba(64, backend="fused")


def no_kernel(*args: Any, **kwargs: Any) -> Tensor:
    raise RuntimeError("built without\n  selective_scan_cuda")


class Missing(ModuleType):
    def __getattr__(self, name: str) -> Any:
        raise OSError("libcudart.so.13: cannot open shared object file")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (
            "import",
            r"its mamba1 kernel cannot be imported \(ModuleNotFoundError: No module named 'selective_scan_cuda'\)",
        ),
        ("library", r"its mamba1 kernel cannot be imported \(OSError: libcudart.so.13: cannot open"),
        ("old", r"its mamba1 kernel cannot be imported \(AttributeError: "),
        (
            "call",
            r"the mamba1 kernel of mamba-ssm fails when called \(RuntimeError: built without selective_scan_cuda\)",
        ),
    ],
)
def test_builds_that_lack_the_kernel(
    broken: str, said: str, install: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Mamba-1's kernel may be missing while Mamba-2's is there."""
    install(selective={"call": no_kernel}.get(broken))
    path, _ = fused.KERNELS["mamba1"]
    if broken == "library":
        monkeypatch.setitem(sys.modules, path, Missing(path))
    if broken == "import":
        monkeypatch.delitem(sys.modules, path)
        (tmp_path / "selective_scan_interface.py").write_text("import selective_scan_cuda\n")
        sys.modules["mamba_ssm.ops"].__path__ = [str(tmp_path)]
    there_is_cuda(monkeypatch)
    with pytest.raises(
        ValueError, match=rf"backend fused cannot be used: .*{said}.*; install it .*; or write backend: auto"
    ):
        resolve("fused", "mamba1", CUDA)
    with pytest.warns(UserWarning, match=rf"mamba-ssm is installed but its kernels are not used: .*{said}"):
        assert resolve("auto", "mamba1", CUDA) == "torch"
    assert resolve("auto", "mamba2", CUDA) == "fused"


@pytest.fixture
def stand_in(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    monkeypatch.setattr(fused, "unusable", lambda layer, device: None)


def outcomes(run: Any, x: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    y = run(x)
    return [y, *torch.autograd.grad(y.float().square().sum(), [x, *parameters])]


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("make", [Mamba, lambda w, **k: Mamba2(w, groups=2, head=16, chunk=8, **k)])
def test_the_kernels_get_what_they_want(make: Any, compiled: bool) -> None:
    """Through a whole layer, in float32 and under autocast; compiled, as one graph."""
    torch._dynamo.reset()
    layers = [make(32, backend=backend) for backend in ("fused", "reference")]
    layers[1].load_state_dict(layers[0].state_dict())
    x = torch.randn(2, 20, 32, requires_grad=True)
    runs = [torch.compile(layers[0], fullgraph=True, backend="aot_eager") if compiled else layers[0], layers[1]]
    for narrow in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            got, want = (outcomes(run, x, list(m.parameters())) for run, m in zip(runs, layers, strict=True))
        for g, w in zip(got, want, strict=True):
            assert (g - w).abs().max() <= (0.05 if narrow else 1e-5) * w.abs().max()


@pytest.mark.usefixtures("stand_in")
@LAYERS
@pytest.mark.parametrize("length", [5, 24, 27])
def test_flops_of_the_operator_are_those_of_plain_pytorch(layer: str, length: int) -> None:
    """As a compiled graph has it; its backward pass runs the kernel's forward pass again."""
    row, mixed = torch.rand(2, 6, length), torch.rand(2, 3, length)
    x, B = torch.rand(2, length, 4, 5), torch.rand(2, length, 2, 3)
    one = {"u": row, "delta": row, "A": -torch.rand(6, 3), "B": mixed, "C": mixed}
    two = {"x": x, "dt": x[..., 0], "A": -torch.rand(4), "B": B, "C": B}
    given = {name: t.clone().requires_grad_() for name, t in (one if layer == "mamba1" else two).items()}
    with FlopCounterMode(display=False) as plain:
        if layer == "mamba1":
            selective_scan(**given, backend="torch")
        else:
            state_space_dual(**given, chunk=8, backend="torch")
    names = " ".join(given)
    with FlopCounterMode(display=False) as forward:
        y = torch.ops.dmf.fused_scan(layer, names, [*given.values()], 8, False)
    with FlopCounterMode(display=False) as backward:
        y.sum().backward()
    assert forward.get_total_flops() == plain.get_total_flops() > 0
    assert backward.get_total_flops() == 3 * forward.get_total_flops()


@pytest.mark.usefixtures("stand_in")
def test_gates_and_gradients_go_through_the_functions() -> None:
    torch.manual_seed(0)
    row, mixed = (2, 6, 9), (2, 3, 9)
    u, delta, z = (torch.randn(row) for _ in range(3))
    A, B, C, D, bias = -torch.rand(6, 3), torch.randn(mixed), torch.randn(mixed), torch.randn(6), torch.randn(6)
    got, want = (selective_scan(u, delta, A, B, C, D, z, bias, True, backend=b) for b in ("fused", "reference"))
    assert torch.equal(got, want)
    x, dt, BC = torch.randn(2, 9, 4, 5), torch.rand(2, 9, 4), torch.randn(2, 2, 9, 2, 3)
    more: dict[str, Any] = {
        "chunk": 8,
        "D": torch.randn(4),
        "z": torch.randn_like(x),
        "dt_bias": torch.randn(4),
        "dt_softplus": True,
    }
    decay = -torch.rand(4)
    got, want = (state_space_dual(x, dt, decay, *BC, **more, backend=b) for b in ("fused", "reference"))
    assert torch.equal(got, want)


@pytest.mark.usefixtures("stand_in")
def test_what_is_per_channel_is_widened_for_the_kernels() -> None:
    """All in bfloat16: the stand-ins refuse A, D and the biases in anything but float32."""
    row, one = torch.rand(1, 6, 2, 4).bfloat16(), torch.rand(1, 6, 1, 3).bfloat16()
    two = -torch.rand(2).bfloat16()
    given: dict[str, Any] = {"chunk": 8, "D": two, "dt_bias": two}
    got, want = (state_space_dual(row, row[..., 0], two, one, one, **given, backend=b) for b in ("fused", "reference"))
    assert got.dtype == torch.bfloat16 and torch.equal(got, want)
    u, A, B = row[..., 0].mT, -torch.rand(2, 3).bfloat16(), one[:, :, 0].mT
    got, want = (selective_scan(u, u, A, B, B, two, u, two, backend=b) for b in ("fused", "reference"))
    assert got.dtype == torch.bfloat16 and torch.equal(got, want)


@pytest.mark.usefixtures("stand_in")
def test_what_the_kernels_do_not_take() -> None:
    row, one = torch.rand(1, 6, 2, 4), torch.rand(1, 6, 1, 3)
    with pytest.raises(ValueError, match=r"the fused kernel takes chunks of 2\^k tokens; got 48; write chunk: 64"):
        state_space_dual(row, row[..., 0], -torch.rand(2), one, one, chunk=48, backend="fused")
    with pytest.raises(ValueError, match=r"chunks of 2\^k tokens; got 48; write chunk: 64"):
        Mamba2(64, chunk=48, backend="fused")
    wide = [t.double() for t in (row, row[..., 0], -torch.rand(2), one, one)]
    with pytest.raises(ValueError, match="the fused kernels take no float64; write backend: torch"):
        state_space_dual(*wide, chunk=64, backend="fused")
    assert state_space_dual(*wide, chunk=64).dtype == torch.float64


@pytest.mark.skipif(
    not torch.cuda.is_available() or importlib.util.find_spec("mamba_ssm") is None, reason="wants a GPU and mamba-ssm"
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", [Mamba, Mamba2])
def test_the_kernels_themselves(make: Any, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layers = [make(128, backend=backend).cuda() for backend in ("fused", "torch")]
    layers[1].load_state_dict(layers[0].state_dict())
    x = torch.randn(2, 300, 128, device="cuda", requires_grad=True)
    with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
        got, want = (outcomes(m, x, list(m.parameters())) for m in layers)
    for g, w in zip(got, want, strict=True):
        assert (g - w).abs().max() <= (0.05 if dtype == torch.bfloat16 else 2e-3) * w.abs().max()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a GPU")
@pytest.mark.parametrize("make", [Mamba, Mamba2])
def test_chunks_on_a_gpu(make: Any) -> None:
    torch.manual_seed(0)
    layer = make(128, backend="torch")
    x = torch.randn(2, 300, 128, requires_grad=True)
    want = outcomes(layer, x, list(layer.parameters()))
    there = x.detach().cuda().requires_grad_()
    got = outcomes(layer.cuda(), there, list(layer.parameters()))
    for g, w in zip(got, want, strict=True):
        assert (g.cpu() - w).abs().max() <= 1e-3 * w.abs().max()
