"""Levels stay on the CPU and x elsewhere: nothing mixes devices, and no step makes the CPU wait for a GPU.

The device "meta" stands for the GPU. It refuses to add to a tensor of the CPU that has axes, and to tell its values.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dmf.core import Cond, Context, Denoiser, Sampler, bind, levels_of, predictions, sample
from dmf.core.guidance import CFG, DynamicThreshold, Guidance, Interval, Rescale
from dmf.core.spec import DataSpec
from dmf.registry import build, parts

SPEC = DataSpec((1, 4, 4), ("a", "b"))
EVERYTHING = DynamicThreshold(of=Rescale(of=Interval(of=CFG(scale=2.0), sigma_min=0.3, sigma_max=5.0)))


class Copies(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lists the copies from the CPU that are waited for: those that are not `non_blocking`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        leaves = func is torch.ops.aten._to_copy.default and args[0].device.type == "cpu"
        if leaves and kwargs.get("device") == torch.device("meta") and not kwargs.get("non_blocking"):
            self.found.append(f"{tuple(args[0].shape)} of {args[0].dtype}")
        return func(*args, **kwargs)


def network(x: Tensor, noise: Tensor, cond: Cond) -> Tensor:
    assert noise.device == x.device and noise.shape == (len(x),)
    return x / 2


@pytest.mark.parametrize("guidance", [None, EVERYTHING], ids=["alone", "guided"])
@pytest.mark.parametrize("schedule", ["flow", "cosine", "edm"])
@pytest.mark.parametrize("name", [p.name for p in parts("sampler") if p.distribution == "dmf" and p.name != "rk45"])
def test_a_walk_on_another_device_is_not_waited_for(name: str, schedule: str, guidance: Guidance | None) -> None:
    found, sampler = build("schedule", schedule), build("sampler", name)
    assert isinstance(sampler, Sampler) and sampler.evaluations is not None
    levels = levels_of(found, build("grid", sampler.grid)(found, 5))
    x = torch.empty(3, 1, 4, 4, device="meta")
    cond = {"class": torch.zeros(3, dtype=torch.int64, device="meta")}
    denoise = bind(Denoiser(network, found, predictions.v), cond, SPEC, guidance)
    with Copies() as copies:
        got = sample(sampler, denoise, x, levels, Context(found, lambda: torch.empty_like(x)))
    assert (got.device, got.dtype, got.shape) == (x.device, x.dtype, x.shape)
    assert copies.found == []


def test_a_scale_an_image_is_not_waited_for() -> None:
    x, level = torch.empty(3, 1, 4, 4, device="meta"), build("schedule", "flow").at(0.5)
    with Copies() as copies:
        assert CFG(scale=torch.tensor([1.0, 2.0, 3.0])).combine(x, x, level).shape == x.shape
    assert copies.found == []
