"""The optimizer: what weight decay leaves alone, and that its state goes out and comes in with the groups."""

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dmf.core import Backbone, DataSpec, WeightGroup, load_optimizer_state, make_state, optimizer_state
from dmf.plugins.backbones.dim import DiM
from dmf.registry import UserError, build, read
from dmf.runner.training.optimizer import build_optimizer, weight_groups
from dmf.runner.training.rates import rates_now, set_rates

Command = Callable[..., tuple[int, str, str]]


def network(layer: Literal["mamba1", "mamba2"] = "mamba1") -> DiM:
    torch.manual_seed(0)
    return DiM(DataSpec((1, 8, 8)), hidden=32, depth=1, patch=4, layer=layer)


def stepped(module: nn.Module, *overrides: str) -> torch.optim.Optimizer:
    """One step from gradients of 0, which changes a weight by decay alone."""
    recipe = read("digits_dim", ["train.optimizer.weight_decay=0.5", "train.lr=0.1", *overrides])
    optimizer = build_optimizer(recipe, module)
    for weight in module.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    return optimizer


@pytest.mark.parametrize("layer", ["mamba1", "mamba2"])
@pytest.mark.parametrize("is_copied", [False, True])
def test_decay_leaves_alone_vectors_and_what_a_layer_names(layer: Literal["mamba1", "mamba2"], is_copied: bool) -> None:
    before = network(layer)
    after = copy.deepcopy(before) if is_copied else network(layer)
    stepped(after)
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        kept = name.endswith(("A_log", ".D", ".dt_bias")) or old.ndim == 1
        assert torch.allclose(new, old if kept else old * (1 - 0.1 * 0.5)), name


def test_decay_of_all_is_of_vectors_too_and_never_of_what_a_layer_names() -> None:
    before, after = network(), network()
    stepped(after, "train.weight_decay_on=all")
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        kept = name.endswith(("A_log", ".D"))
        assert torch.allclose(new, old if kept else old * (1 - 0.1 * 0.5)), name


def test_decay_leaves_alone_what_mamba_ssm_marks() -> None:
    module = nn.Linear(2, 2)
    nn.init.ones_(module.bias)
    module.bias._no_weight_decay = True  # type: ignore[attr-defined]
    stepped(module, "train.weight_decay_on=all")
    assert torch.equal(module.bias, torch.ones(2))


def test_what_is_not_trained_is_in_no_group() -> None:
    module = nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    (group,) = build_optimizer(read("digits_dim"), module).param_groups
    assert len(group["params"]) == 1


def groups_of(backbone: str, **options: Any) -> dict[str, WeightGroup]:
    """The group of each weight."""
    torch.manual_seed(0)
    module = build("backbone", backbone, DataSpec((1, 8, 8), ("a", "b")), **options)
    return {name: group for group in weight_groups(module, 1.0) for name in group.names}


def test_hidden_are_the_matrices_in_blocks_and_no_others() -> None:
    dit = groups_of("dit", hidden=32, depth=1, heads=2, patch=4)
    assert {name for name, group in dit.items() if group.hidden} == {
        name for name in dit if name.startswith("layers.") and not name.endswith(".bias") and "norm" not in name
    }
    dim = groups_of("dim", hidden=32, depth=1, patch=4)
    assert not any(group.hidden for name, group in dim.items() if name.endswith(("A_log", "conv1d.weight")))
    assert any(group.hidden for name, group in dim.items() if name.endswith("in_proj.weight"))
    unet = groups_of("unet", base=32, multipliers=[1], blocks=1, groups=8, attention=[])
    assert not any(unet[name].hidden for name in unet if name.startswith(("into.", "out.", "conditioning.")))
    assert any(group.hidden and group.weights[0].ndim == 4 for group in unet.values())


class Told(Backbone):
    """Has an embedding in its only block."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.layers = nn.ModuleList([nn.ModuleDict({"mixing": nn.Linear(4, 4), "table": nn.Embedding(3, 4)})])

    def forward(self, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return x


def test_an_embedding_in_a_block_is_not_hidden() -> None:
    groups = weight_groups(Told(DataSpec((1, 8, 8))), 1.0)
    assert [name for group in groups if group.hidden for name in group.names] == ["layers.0.mixing.weight"]


def test_factors_make_groups_with_rates_of_their_own() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    groups = weight_groups(module, 0.5, factors={"0": 0.1, "*.bias": 2.0})
    assert {name: group.lr for group in groups for name in group.names} == pytest.approx(
        {"0.weight": 0.05, "0.bias": 0.1, "1.weight": 0.5, "1.bias": 1.0}
    )


def test_each_rate_is_logged_under_its_factor() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    recipe = read("digits_dim", ["train.lr=0.5", "train.lr_factors={'0': 0.1}"])
    optimizer = build_optimizer(recipe, module)
    set_rates(optimizer, 0.25)
    assert rates_now(optimizer, 0.5) == pytest.approx({"learning_rate": 0.125, "learning_rate/x0.1": 0.0125})


def test_an_optimizer_that_refuses_its_options_says_so_to_the_user() -> None:
    recipe = read("digits_dim", ["train.optimizer={name: sgd, momentum: 0, nesterov: true}"])
    with pytest.raises(UserError, match=r"train\.optimizer: nesterov: true wants momentum above 0"):
        build_optimizer(recipe, nn.Linear(2, 2))
    with pytest.raises(UserError, match=r"train\.optimizer: muon found no hidden matrices"):
        build_optimizer(read("digits_dim", ["train.optimizer=muon"]), nn.Linear(2, 2))


def trained(module: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    torch.manual_seed(1)
    for _ in range(steps):
        for weight in module.parameters():
            weight.grad = torch.randn_like(weight)
        optimizer.step()


def test_the_state_is_named_by_key_and_weight() -> None:
    module = network()
    optimizer = stepped(module)
    tensors, plain = optimizer_state(optimizer, module)
    names = [name for name, _ in module.named_parameters()]
    assert set(tensors) == {f"{key}/{name}" for key in ("step", "exp_avg", "exp_avg_sq") for name in names}
    assert sorted(name for group in plain["groups"] for name in group["names"]) == sorted(names)
    assert json.loads(json.dumps(plain))["weights"] == {}


def test_the_state_does_not_depend_on_the_order_of_groups() -> None:
    module = network()
    one = torch.optim.AdamW(module.parameters(), lr=0.1, fused=True)
    trained(module, one)
    saved = {name: value.clone() for name, value in optimizer_state(one, module)[0].items()}
    plain = json.loads(json.dumps(optimizer_state(one, module)[1]))
    other = copy.deepcopy(module)
    mine = list(other.parameters())[::-1]
    two = torch.optim.AdamW([{"params": mine[:7]}, {"params": mine[7:]}], lr=0.1, fused=True)
    load_optimizer_state(two, other, saved, plain)
    trained(module, one, 1)
    trained(other, two, 1)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))


def test_a_state_can_be_made_before_the_first_step() -> None:
    module = network()
    optimizer = build_optimizer(read("digits_dim", ["train.optimizer.weight_decay=0.5"]), module)
    before = [weight.detach().clone() for weight in module.parameters()]
    make_state(optimizer)
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    assert all(weight.grad is None for weight in module.parameters())
    assert len(optimizer_state(optimizer, module)[0]) == 3 * len(before)
    assert {(g["lr"], g["weight_decay"]) for g in optimizer.param_groups} == {(2e-3, 0.5), (2e-3, 0.0)}


def test_a_weight_that_never_had_a_gradient_has_no_state_afterwards() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer = torch.optim.AdamW(module.parameters(), fused=True)
    for weight in module[0].parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    again = torch.optim.AdamW(module.parameters(), fused=True)
    load_optimizer_state(again, module, *optimizer_state(optimizer, module))
    assert set(again.state) == set(module[0].parameters())


def test_what_a_process_decides_is_not_restored() -> None:
    module = nn.Linear(2, 2)
    old = torch.optim.AdamW(module.parameters(), lr=0.1, foreach=True)
    trained(module, old)
    new = torch.optim.AdamW(module.parameters(), lr=0.2, fused=True)
    load_optimizer_state(new, module, *optimizer_state(old, module))
    (group,) = new.param_groups
    assert (group["lr"], group["fused"], group["foreach"]) == (0.2, True, None)


@pytest.mark.parametrize(
    ("other", "what", "name"),
    [
        (lambda: (nn.Linear(2, 2), torch.optim.Adagrad), "of another optimizer", "sum/weight"),
        (lambda: (nn.Sequential(nn.Linear(2, 2)), torch.optim.AdamW), "of other weights", "0.weight"),
        (lambda: (nn.Linear(3, 2), torch.optim.AdamW), "of other shapes", r"exp_avg/weight: \(2, 3\) there"),
    ],
)
def test_another_state_is_refused_by_name(
    other: Callable[[], tuple[nn.Module, type[torch.optim.Optimizer]]], what: str, name: str
) -> None:
    theirs, kind = other()
    optimizer = kind(theirs.parameters())  # type: ignore[call-arg]
    trained(theirs, optimizer)
    module = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=f"{what} than this AdamW's: .*{name}"):
        load_optimizer_state(torch.optim.AdamW(module.parameters()), module, *optimizer_state(optimizer, theirs))


@pytest.mark.parametrize(
    "optimizer", ["muon", "{name: sgd, momentum: 0}", "{name: sgd, nesterov: true}"], ids=["muon", "plain", "nesterov"]
)
def test_a_training_that_goes_on_ends_with_the_same_weights(tiny: Path, dmf_command: Command, optimizer: str) -> None:
    short = [
        f"train.optimizer={optimizer}",
        "train.steps=4",
        "train.batch_size=8",
        "train.decay={name: step, every: 3}",
    ]
    assert dmf_command("train", tiny, "name=whole", *short)[0] == 0
    assert dmf_command("train", tiny, "name=parts", *short, "train.steps=2")[0] == 0
    code, _, err = dmf_command("train", tiny, "name=parts", *short)
    assert code == 0, err
    whole, parts = (
        load_file(tiny.parent / f"runs/{n}/checkpoints/step-00000004/model.safetensors") for n in ("whole", "parts")
    )
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
