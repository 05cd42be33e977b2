"""A step never waits for the device: no value of a tensor is asked for outside of the logging interval."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from training_kit import trainer

from dmf.registry import parts
from dmf.runner.training import Trainer

ASKS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default, torch.ops.aten.nonzero.default}


class NobodyWaits(TorchDispatchMode):
    """Raises where anybody asks for a number; on a CPU what is the host's and what the device's looks the same."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in ASKS, f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


def step(one: Trainer) -> None:
    """One in which nobody asks but who draws times, levels among them, which is done on the host on any device."""
    draws = one.take_step.draws

    class Host:
        seed_network = draws.seed_network

        def __call__(self, *given: Any) -> Any:
            with _disable_current_modes():
                return draws(*given)

    one.take_step.draws = Host()
    with NobodyWaits():
        one.step()
    one.take_step.draws = draws


def test_asking_is_noticed() -> None:
    for ask in (float, bool, torch.Tensor.item, torch.Tensor.nonzero):
        with NobodyWaits(), pytest.raises(AssertionError, match="waits for the device"):
            ask(torch.ones(()))


EMA = "train.ema=[0.9, half_life]"


@pytest.mark.parametrize("words", [("train.precision=fp16", "train.micro_batch=7"), (EMA, "train.clip=null")])
def test_a_step_asks_for_nothing(words: tuple[str, ...], tiny: Path) -> None:
    with trainer(tiny, *words) as one:
        one.step()  # the first makes the optimizer's state, and looks once for channels that nobody reads
        step(one)


@pytest.mark.parametrize("name", sorted(part.name for part in parts("optimizer")))
def test_no_optimizer_asks(name: str, tiny: Path) -> None:
    with trainer(tiny, f"train.optimizer={name}") as one:
        one.step()
        step(one)
