"""Activation checkpointing: the same numbers from less memory, in copies, on several ranks, through the recipe."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from backbones_kit import LETTERS, SMALL, has_option, inputs, lively, small
from safetensors.torch import load_file
from torch import Tensor, nn
from torch._dynamo.eval_frame import is_dynamo_supported
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.parallel import DistributedDataParallel

from dmf.core import Backbone, DataSpec, checkpoint_activations
from dmf.plugins.backbones.dit import DiT

Command = Callable[..., tuple[int, str, str]]
NAMES = pytest.mark.parametrize("name", SMALL)


def network_of(name: str) -> Backbone:
    dropout = {"dropout": 0.3} if has_option(name, "dropout") else {}
    return lively(small(name, DataSpec((1, 8, 8), LETTERS), **dropout)).train()


def gradients(network: Backbone) -> dict[str, Tensor]:
    network.zero_grad()
    torch.manual_seed(5)
    network(*inputs(network.spec)).square().sum().backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def bytes_kept(network: Backbone) -> int:
    """What autograd keeps for the backward pass outside of the checkpoints, each tensor as often as it is kept."""
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.nbytes)
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        network(*inputs(network.spec))
    return sum(kept)


@NAMES
def test_gradients_are_the_same_bit_for_bit_with_dropout_and_in_copies(name: str) -> None:
    plain = network_of(name)
    checkpointed = copy.deepcopy(plain)
    checkpoint_activations(checkpointed)
    copied = copy.deepcopy(checkpointed)
    for parameter in checkpointed.parameters():
        nn.init.zeros_(parameter)  # a copy has nothing of it
    want = gradients(plain)
    got = gradients(copied)
    assert set(got) == set(want) and all(torch.equal(got[key], want[key]) for key in want)
    assert list(copied.state_dict()) == list(plain.state_dict())


@NAMES
def test_it_keeps_less_in_training_and_changes_nothing_elsewhere(name: str) -> None:
    network = network_of(name)
    before = bytes_kept(network)
    untrained = bytes_kept(network.eval())
    checkpoint_activations(network)
    checkpoint_activations(network)  # again: no second layer of it
    assert bytes_kept(network.train()) < 0.5 * before
    assert bytes_kept(network.eval()) == untrained
    with torch.no_grad():
        assert bytes_kept(network.train()) == 0


def test_a_network_without_blocks_is_told() -> None:
    class Whole(Backbone):
        def forward(self, x: Tensor, noise: Tensor, cond: object) -> Tensor:
            return x

    with pytest.raises(ValueError, match=r"blocks\(\) of Whole is empty; give the list of its repeated modules"):
        checkpoint_activations(Whole(DataSpec((1, 8, 8))))


@NAMES
def test_it_stays_through_pickle(name: str) -> None:
    """As spawn and torch.save need; what is read back has weights of its own."""
    plain = network_of(name)
    checkpointed = copy.deepcopy(plain)
    checkpoint_activations(checkpointed)
    read = pickle.loads(pickle.dumps(checkpointed))
    for parameter in checkpointed.parameters():
        nn.init.zeros_(parameter)
    assert bytes_kept(read) < 0.5 * bytes_kept(plain)
    want, got = gradients(plain), gradients(read)
    assert set(got) == set(want) and all(torch.equal(got[key], want[key]) for key in want)


@pytest.mark.skipif(not is_dynamo_supported(), reason="torch.compile does not work on this Python or system")
def test_it_compiles_as_one_graph() -> None:
    plain = network_of("dit")
    checkpointed = copy.deepcopy(plain)
    checkpoint_activations(checkpointed)
    call = torch.compile(checkpointed.eval(), fullgraph=True, backend="aot_eager")
    given = inputs(plain.spec)
    assert torch.allclose(call(*given), plain.eval()(*given), rtol=1e-5, atol=1e-5)
    call = torch.compile(checkpointed.train(), fullgraph=True, backend="aot_eager")
    call(*given).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in checkpointed.parameters())


def test_a_forward_of_the_instance_is_not_thrown_away() -> None:
    network = network_of("dit")
    first, second = network.blocks()
    forward = second.forward
    second.forward = lambda *given: forward(*given)
    with pytest.raises(ValueError, match=r"a Block has a `forward` of its own .* put there after"):
        checkpoint_activations(network)
    assert "forward" not in vars(first)  # nothing is half done


def weights(run: Path) -> dict[str, Tensor]:
    return load_file(run / "checkpoints/step-00000012/model.safetensors")


def test_a_recipe_asks_for_it(tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are those of a training without, and a run may go on with it."""
    passes = []
    count = nn.LayerNorm.forward
    monkeypatch.setattr(nn.LayerNorm, "forward", lambda self, x: (passes.append(1), count(self, x))[1])
    on, dropout = "train.activation_checkpointing=true", "backbone.dropout=0.2"
    used = {}
    for name, words in {"plain": [], "kept": [on]}.items():
        passes.clear()
        assert dmf_command("train", tiny, f"name={name}", dropout, *words)[0] == 0
        used[name] = len(passes)
    assert used["kept"] > used["plain"] + 12
    assert dmf_command("train", tiny, "name=half", dropout, "train.steps=6")[0] == 0
    assert dmf_command("train", tiny, "name=half", dropout, on)[0] == 0
    runs = tiny.parent / "runs"
    want = weights(runs / "plain")
    for name in ("kept", "half"):
        got = weights(runs / name)
        assert set(got) == set(want) and all(torch.equal(got[key], want[key]) for key in want)


@NAMES
def test_it_goes_with_ddp(name: str) -> None:
    """Each weight is reduced once: a block that hands its gradients in twice is an error of the reducer's."""
    plain = network_of(name)
    checkpointed = copy.deepcopy(plain)
    checkpoint_activations(checkpointed)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        ranks = DistributedDataParallel(checkpointed)
        torch.manual_seed(5)
        ranks(*inputs(plain.spec)).square().sum().backward()
        del ranks
    finally:
        torch.distributed.destroy_process_group()
    want = gradients(plain)
    assert all(torch.equal(p.grad, want[key]) for key, p in checkpointed.named_parameters() if p.grad is not None)
    assert sum(p.grad is not None for p in checkpointed.parameters()) == len(want)


def test_a_recipe_asks_it_of_a_network_without_blocks(
    tiny: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DiT, "blocks", lambda self: [])
    code, _, err = dmf_command("train", tiny, "train.activation_checkpointing=true")
    assert code == 2 and "train.activation_checkpointing: activation checkpointing works on blocks" in err
