"""What the tests of reading recipes share."""

from pathlib import Path

import pytest

from dmf.registry import RecipeError, read

GOOD = """\
name: digits-dit
seed: 0
dataset:  {name: digits}
backbone: {name: dit, hidden: 128, depth: 4, heads: 4, patch: 2}
schedule: {name: flow}
prediction: flow
train:    {steps: 800, batch_size: 128, lr: 1e-3, label_dropout: 0.1, ema: 0.995}
sampler:  {name: heun, steps: 20, guidance: 2.0}
evaluate: {images: 1000, metrics: [{name: frechet, features: digits}, {name: kernel, features: digits}]}
"""


@pytest.fixture(name="path")
def path_fixture(tmp_path: Path) -> Path:
    return tmp_path / "r.yaml"


def problems(path: Path, text: str, *overrides: str) -> list[str]:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as error:
        read(path, overrides)
    return [p.replace(str(path), "r.yaml") for p in error.value.problems]


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)
