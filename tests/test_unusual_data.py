"""Runs of what the built-in recipes do not have: vectors, no labels, oblong images, taught objectives."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from registry_kit import Install, install_fixture  # noqa: F401 - the fixture `install`
from safetensors.torch import load_file

Command = Callable[..., tuple[int, str, str]]
SOURCE = '''
"""Parts for the tests."""

import torch
from torch import nn

from dmf.core import Attempt, Backbone, CondSpec, DataSpec, Dataset, Example, InMemory


class Oblong(Dataset):
    """Images of 8 x 16, without labels, read one by one."""

    def __init__(self) -> None:
        self.spec = DataSpec((1, 8, 16))

    def __len__(self) -> int:
        return 40

    def __getitem__(self, i: int) -> Example:
        return Example(torch.full((1, 8, 16), 6 * i, dtype=torch.uint8))


class Shades(InMemory):
    """Images of one shade, which a vector tells."""

    def __init__(self) -> None:
        shades = torch.arange(40, dtype=torch.uint8) * 6
        spec = DataSpec((1, 8, 8), cond={"shade": CondSpec("vector", (2,))})
        vectors = torch.stack([shades / 255, 1 - shades / 255], 1)
        super().__init__(spec, shades.reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8), {"shade": vectors})


class Told(Backbone):
    """Sees the vector, and whether it was given."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.mix = nn.Conv2d(spec.shape[0] + 3, spec.shape[0], 3, padding=1)

    def forward(self, x, noise, cond):
        told = torch.cat([cond["shade"], cond["shade_given"][:, None].float()], 1)
        return self.mix(torch.cat([x, told[:, :, None, None].expand(-1, -1, *x.shape[2:])], 1))


class Taught(nn.Module):
    """A squared error with a scale of its own to learn."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, attempt: Attempt):
        error = (attempt.output - attempt.target).square().flatten(1).mean(1)
        return error * torch.exp(-self.log_scale) + self.log_scale
'''


@pytest.fixture
def odd(install: Install, tiny: Path) -> Path:
    """The small recipe, with the parts of SOURCE at hand."""
    entries = {
        "dmf.datasets": "oblong = odd_parts:Oblong\nshades = odd_parts:Shades",
        "dmf.backbones": "told = odd_parts:Told",
        "dmf.objectives": "taught = odd_parts:Taught",
    }
    install("odd-parts", entries, {"odd_parts.py": SOURCE})
    return tiny


def test_unlabelled_oblong_images_train_and_sample(odd: Path, dmf_command: Command) -> None:
    code, _, err = dmf_command("run", odd, "dataset=oblong", "sampler.guidance=1", "train.batch_size=50")
    assert code == 0, err
    assert dmf_command("sample", "tiny", "--count", 3, "--npz", "out.npz")[0] == 0
    with np.load("out.npz") as arrays:
        assert arrays["arr_0"].shape == (3, 8, 16, 1) and "arr_1" not in arrays
    code, _, err = dmf_command("run", odd, "dataset=oblong", "name=guided")
    assert code == 2 and "guidance needs classes" in err
    code, _, err = dmf_command("sample", "tiny", "--labels", "1")
    assert code == 2 and "no classes" in err


def test_a_vector_condition_goes_all_the_way(odd: Path, dmf_command: Command) -> None:
    words = ["dataset=shades", "backbone=told", "preview={every: 6}", "evaluate.images=0"]
    code, _, err = dmf_command("run", odd, *words)
    assert code == 0, err
    assert (odd.parent / "runs/tiny/samples/grid.png").exists()
    assert len(load_file(odd.parent / "runs/tiny/examples.safetensors")["shade"]) == 40
    code, _, err = dmf_command("sample", "tiny", "--count", 45, "--guidance", 3, "--npz", "out.npz")
    assert code == 0, err


def test_an_objective_with_weights_is_trained_saved_and_resumed(odd: Path, dmf_command: Command) -> None:
    words = ["train.objective=taught", "checkpoint.every=100"]
    dmf_command("train", odd, *words, "train.steps=6")
    assert dmf_command("train", odd, *words, "train.steps=12")[0] == 0
    assert dmf_command("train", odd, *words, "train.steps=12", "name=straight")[0] == 0
    runs = odd.parent / "runs"
    ours, straight = (
        float(load_file(runs / name / "checkpoints/step-00000012/objective.safetensors")["log_scale"])
        for name in ("tiny", "straight")
    )
    assert ours == straight != 0
