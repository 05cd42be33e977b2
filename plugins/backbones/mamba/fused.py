"""The fused kernels of the package mamba-ssm (CUDA alone), imported when they are first asked for.

Source: Gu & Dao 2023 (arXiv 2312.00752), section 3.3.2, and Dao & Gu 2024 (arXiv 2405.21060); written by the authors.
A build may lack the module, a library that it links to, or the Mamba-1 kernel alone, which then raises when called.
"""

import importlib
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from math import ceil
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

KERNELS = {
    "mamba1": ("mamba_ssm.ops.selective_scan_interface", "selective_scan_fn"),
    "mamba2": ("mamba_ssm.ops.triton.ssd_combined", "mamba_chunk_scan_combined"),
}
INSTALL = (
    "install it where there is a CUDA compiler (nvcc), after torch, with MAMBA_KEEP_CUDA_BUILD=TRUE"
    " MAMBA_FORCE_BUILD=TRUE pip install --no-build-isolation 'mamba-ssm>=2.3'"
)


@cache
def installed() -> bool:
    """Whether there is a package mamba_ssm at all, whole or not."""
    return find_spec("mamba_ssm") is not None


def unusable(layer: str, device: torch.device) -> str | None:
    """Why the kernels of a layer cannot run on a device, and what to do; None if they can."""
    if not installed():
        return f"mamba-ssm is not installed; {INSTALL}"
    if not torch.cuda.is_available():
        return "its kernels run on CUDA devices alone, and this machine has none"
    if device.type != "cuda":
        return f"its kernels run on CUDA devices alone, and these tensors are on {device.type}"
    return _trial(layer, device)


def kernel(layer: str) -> Callable[..., Any]:
    """The public function of mamba-ssm for a layer."""
    module, name = KERNELS[layer]
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


@cache
def _trial(layer: str, device: torch.device) -> str | None:
    """Import the kernel and run it, forward and back: some builds fail in the one, some in the other."""
    try:
        kernel(layer)
    except (ImportError, OSError, AttributeError) as error:
        return f"mamba-ssm is installed, but its {layer} kernel cannot be imported ({_line(error)}); {INSTALL}"
    try:
        with torch.inference_mode(False), torch.enable_grad():
            (_first_selective if layer == "mamba1" else _first_dual)(device)
    except Exception as error:  # a broken build or compiler raises what it likes: it is told to the user
        return f"the {layer} kernel of mamba-ssm fails when called ({_line(error)}); {INSTALL}"
    return None


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _first_selective(device: torch.device) -> None:
    u = torch.ones(1, 64, 64, device=device, requires_grad=True)
    A, B = -torch.ones(64, 16, device=device), torch.ones(1, 16, 64, device=device)
    torch.autograd.grad(selective(u, torch.ones_like(u), A, B, B).sum(), u)


def _first_dual(device: torch.device) -> None:
    x = torch.ones(1, 64, 1, 64, device=device, requires_grad=True)
    dt, B = torch.ones(1, 64, 1, device=device), torch.ones(1, 64, 1, 64, device=device)
    torch.autograd.grad(dual(x, dt, -torch.ones(1, device=device), B, B, chunk=64).sum(), x)


def selective(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """Mamba-1's kernel; shapes as ``selective_scan``'s. What is per channel is float32, the rest of u's dtype."""
    delta, B, C = (t.to(u.dtype).contiguous() for t in (delta, B, C))
    given = {"u": u.contiguous(), "delta": delta, "A": A.float(), "B": B, "C": C}
    given |= {name: t.float() for name, t in (("D", D), ("delta_bias", delta_bias)) if t is not None}
    given |= {} if z is None else {"z": z.to(u.dtype).contiguous()}
    return _run("mamba1", given, 0, delta_softplus)


def dual(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    chunk: int,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
) -> Tensor:
    """Mamba-2's kernel; shapes as ``state_space_dual``'s. What is per head is float32, the rest of x's dtype."""
    check_chunk(chunk)
    given = {"x": x, "dt": dt.to(x.dtype), "A": A.float(), "B": B.to(x.dtype), "C": C.to(x.dtype)}
    given |= {name: t.float() for name, t in (("D", D), ("dt_bias", dt_bias)) if t is not None}
    given |= {} if z is None else {"z": z.to(x.dtype)}
    return _run("mamba2", given, chunk, dt_softplus)


def check_chunk(chunk: int) -> None:
    """Refuse what Mamba-2's kernel does not take."""
    if chunk & (chunk - 1):
        raise ValueError(f"the fused kernel takes chunks of 2^k tokens; got {chunk}; write chunk: 64")


def _run(layer: str, given: dict[str, Tensor], chunk: int, softplus: bool) -> Tensor:
    """The kernel; where a graph is compiled, which cannot look into it, as one operator."""
    names, tensors = " ".join(given), list(given.values())
    run = _operator if torch.compiler.is_compiling() else _call
    out: Tensor = run(layer, names, tensors, chunk, softplus)
    return out


def _call(layer: str, names: str, tensors: Sequence[Tensor], chunk: int, softplus: bool) -> Tensor:
    given: dict[str, Any] = dict(zip(names.split(), tensors, strict=True))
    given |= {"delta_softplus": softplus} if layer == "mamba1" else {"chunk_size": chunk, "dt_softplus": softplus}
    out: Tensor = kernel(layer)(**given)
    return out


@torch.library.custom_op("dmf::fused_scan", mutates_args=())
def _operator(layer: str, names: str, tensors: Sequence[Tensor], chunk: int, softplus: bool) -> Tensor:
    with torch.no_grad():
        return _call(layer, names, tensors, chunk, softplus).contiguous()


@torch.library.custom_op("dmf::fused_scan_backward", mutates_args=())
def _operator_backward(
    gy: Tensor, layer: str, names: str, tensors: Sequence[Tensor], chunk: int, softplus: bool
) -> list[Tensor]:
    """The kernel's backward pass wants what its forward pass kept, so that both are run."""
    leaves = [t.detach().requires_grad_() for t in tensors]
    with torch.enable_grad():
        y = _call(layer, names, leaves, chunk, softplus)
    return [grad.contiguous() for grad in torch.autograd.grad(y, leaves, gy)]


@_operator.register_fake
def _(layer: str, names: str, tensors: Sequence[Tensor], chunk: int, softplus: bool) -> Tensor:
    return tensors[0].new_empty(tensors[0].shape)


@_operator_backward.register_fake
def _(gy: Tensor, layer: str, names: str, tensors: Sequence[Tensor], chunk: int, softplus: bool) -> list[Tensor]:
    return [t.new_empty(t.shape) for t in tensors]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    layer, names, tensors, chunk, softplus = inputs
    ctx.save_for_backward(*tensors)
    ctx.rest = layer, names, chunk, softplus


def _differentiate(ctx: Any, gy: Tensor) -> tuple[Any, ...]:
    layer, names, chunk, softplus = ctx.rest
    return None, None, _operator_backward(gy, layer, names, list(ctx.saved_tensors), chunk, softplus), None, None


_operator.register_autograd(_differentiate, setup_context=_keep)


# These count the operator, which compiled graphs have. A kernel that is called eagerly is none of torch's operators:
# its counter sees nothing of it, and such a layer counts its linear maps and its convolution alone.
@register_flop_formula(torch.ops.dmf.fused_scan)
def _flops(layer: str, names: str, shapes: Sequence[Sequence[int]], chunk: int, softplus: bool, **_: object) -> int:
    """As many as the scans in plain PyTorch have, for whole chunks."""
    given = dict(zip(names.split(), shapes, strict=True))
    if layer == "mamba1":
        batch, channels, length = given["u"]
        return 4 * batch * channels * length * given["A"][1]  # multiply and add: into the state and out of it
    batch, length, heads, width = given["x"]
    groups, state = given["B"][2:]
    chunk = min(chunk, length)
    tokens = batch * chunk * ceil(length / chunk)
    # scores and diagonal blocks, into the state and out of it
    return 2 * tokens * (chunk * groups * state + chunk * heads * width + 2 * heads * width * state)


@register_flop_formula(torch.ops.dmf.fused_scan_backward)
def _flops_backward(gy: Sequence[int], *forward: Any, **_: object) -> int:
    """The forward pass, which is run again, and two products for each of its own."""
    return 3 * _flops(*forward)
