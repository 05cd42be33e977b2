"""Every registered part against the contract of its kind; a part without it cannot exist, nor a kind."""

from typing import Any

import backbones_kit
import pytest
from fidelity_kit import tiny_fidelity_fixture as tiny_fidelity_fixture
from inception_kit import tiny_inception_fixture as tiny_inception_fixture
from lpips_kit import random_trunks_fixture as random_trunks_fixture
from lpips_kit import trunk_files_fixture as trunk_files_fixture
from stand_ins_kit import stand_ins_fixture as stand_ins_fixture

from dmf.registry import KINDS, parts
from dmf.testing import CHECKS, Case, cases
from dmf.testing.contracts import IN_EVERY_SETTING
from dmf.testing.smoke import SMOKE

NAMED = ("celeba", "cifar10", "cifar100", "fashion_mnist", "flowers102", "mnist")  # read from stand-ins
# networks small enough for a test; nothing is downloaded; a grid that is a list has no default
SMALL: dict[tuple[str, str], dict[str, Any]] = {
    **{("backbone", name): dict(options) for name, options in backbones_kit.SMALL.items()},
    **{("dataset", name): {"download": False} for name in NAMED},
    ("features", "fidelity"): {"model": "vgg16"},
    ("grid", "explicit"): {"values": [0.9, 0.6, 0.4, 0.2, 0.1]},
}
FEW: dict[str, Any] = {"base": 8, "groups": 4, "multipliers": [1, 2], "blocks": 1}
OTHERWISE: dict[str, Any] = {"resample": "block", "scale_shift": True, "half_sums": True}
# where a number changes what a part is: noise, lists, another order; and other layers of each backbone
FURTHER: list[tuple[str, str, dict[str, Any]]] = [
    ("dataset", "celeba", {"download": False, "label": "Smiling", "size": 16, "crop": 178, "memory_gib": 0}),
    ("dataset", "cifar100", {"download": False, "labels": "coarse", "size": 24}),
    ("dataset", "flowers102", {"download": False, "split": "train", "size": 16, "memory_gib": 0}),
    ("sampler", "ddim", {"eta": 0.5}),
    ("sampler", "euler", {"churn": 10.0}),
    ("sampler", "heun", {"churn": 10.0, "churn_min": 0.05, "churn_max": 50.0, "churn_noise": 1.003}),
    ("guidance", "cfg", {"scale": [1.0, 2.0, 4.0]}),
    ("metric", "inception_score", {"features": "digits", "splits": 3}),
    ("guidance", "interval", {"of": 3.0, "sigma_min": 0.3, "sigma_max": 5.0}),
    ("guidance", "dynamic_threshold", {"of": 1.0}),
    ("schedule", "linear", {"zero_terminal_snr": True}),
    ("backbone", "context_unet", {"width": 4, "groups": 2, "window": 12, "dropout": 0.1}),
    (
        "backbone",
        "dim",
        {"hidden": 16, "depth": 1, "layer": "mamba2", "head": 16, "bidirectional": True, "scans": ["hilbert"]},
    ),
    (
        "backbone",
        "dit",
        {"hidden": 32, "depth": 1, "heads": 2, "norm": "rms", "mlp": "swiglu", "qk_norm": True, "positions": "rotary"},
    ),
    ("backbone", "unet", {**FEW, "attention": [8, 16], "heads": 2, "decoder_attention": "last", **OTHERWISE}),
]
CASES = [
    *(case for part in parts() for case in cases(part.kind, part.name, SMALL.get((part.kind, part.name)))),
    *(case for kind, name, options in FURTHER for case in cases(kind, name, options)),
]


def test_every_kind_has_a_contract() -> None:
    assert set(CHECKS) == set(SMOKE) == set(KINDS)
    assert all(CHECKS.values()) and set(IN_EVERY_SETTING) <= set(KINDS)


def test_every_part_is_held_to_the_contract_of_its_kind() -> None:
    for part in parts():
        held = {case.check for case in CASES if (case.setting.kind, case.setting.part_name) == (part.kind, part.name)}
        assert held >= set(CHECKS[part.kind])


def test_every_backbone_is_held_to_its_contract_twice() -> None:
    """With the layers of its defaults, and with others."""
    assert {name for kind, name, _ in FURTHER if kind == "backbone"} == set(backbones_kit.SMALL)


def test_checks_have_names_of_their_own() -> None:
    ids = [(case.setting.name, case.name) for case in CASES]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.setting.name}-{case.name}")
def test_contract(case: Case, request: pytest.FixtureRequest) -> None:
    if case.setting.part_name in NAMED:
        request.getfixturevalue("stand_ins")
    if case.setting.kind in ("features", "metric"):  # which may look through Inception; its weights are not fetched
        request.getfixturevalue("tiny_inception")
        request.getfixturevalue("tiny_fidelity")
    if case.setting.part_name == "lpips_diversity":
        request.getfixturevalue("random_trunks")
    case.run()
