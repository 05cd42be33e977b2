"""Whatever stands in a file, reading it gives a recipe or a `RecipeError`, never anything else."""

import random
from pathlib import Path

import pytest
from conftest import FULL

from dmf.registry import Recipe, RecipeError, read

ROUNDS = 30_000 if FULL else 3_000
TEXT = """\
# a recipe with everything in it that can be mangled
name: digits-dit
seed: 0
dataset:  {name: digits}
backbone: {name: dit, hidden: 128, depth: 4, heads: 4, patch: 2}
schedule: {name: flow}
prediction: flow
train:    &train {steps: 800, batch_size: 128, lr: 1e-3, label_dropout: 0.1, ema: 0.995,
        optimizer: {name: adamw, betas: [0.9, 0.99]}, clip: ~}
preview:
  every: 200
  per_class: 2
sampler:  {name: heun, steps: 20, guidance: {name: cfg, scale: 2.0}, grid: {name: karras, rho: 7}}
evaluate: {images: 1000, metrics: [{name: frechet, features: digits}, {name: kernel, features: {name: digits}}]}
hooks: []
"""
WORDS = [
    "null",
    "~",
    "true",
    "[]",
    "{}",
    "-1",
    "0",
    "1",
    "0.5",
    "1e5",
    "1e19",
    "1e20",
    "1e309",
    "1e-400",
    ".nan",
    "-.inf",
    "9" * 30,
    "9" * 5000,
    "'",
    '"',
    "&a [*a]",
    "*train",
    "<<: *train",
    "!!int 3",
    "!!python/object:os.system",
    "? a",
    "- b",
    "---",
    "...",
    "%YAML 1.2",
    "\t",
    "\0",
    "\x07",
    "\ud800",
    "é",
    "\u2028",
    "💥",
    "name",
    "steps",
    "extends",
    "ddim",
    "ddpm",
    "cfg",
    "log_snr",
    "unet",
    "epsilon",
    "mlflow",
    "l1",
    "a" * 300,
    "[" * 80,
    "{" * 200,
    "# ",
    ": ",
    ",\n",
    "|",
    ">",
    "@",
    "`",
    "{name: heun}",
    "[1, 2]",
    "digits\n",
    "\nextends: digits_dit\n",
    "\nextends: r.yaml\n",
    '\nextends: "\\0"\n',
    '\n"\\n": 1\n',
    "\nextends: " + "x" * 300 + "\n",
]
KEYS = [
    "name",
    "seed",
    "train",
    "train.steps",
    "train.optimizer.betas.0",
    "train.optimizer.betas.7",
    "sampler",
    "sampler.name",
    "hooks.0",
    "sampler.guidance",
    "sampler.guidance.scale",
    "sampler.grid.rho",
    "sampler.grid.name",
    "evaluate.metrics",
    "evaluate.metrics.0.features",
    "evaluate.metrics.1.features.name",
    "evaluate.metrics.1.features.x.y",
    "a.b",
    "",
    ".",
    "train.objective.name",
    "codec.name",
    "backbone",
    "backbone.name.x",
    "extends",
    "log.every",
]


def mutated(text: str, rng: random.Random) -> str:
    """The text with one to three pieces deleted, doubled, moved or replaced."""
    for _ in range(rng.randint(1, 3)):
        a, b = sorted(rng.choices(range(len(text) + 1), k=2))
        b = min(b, a + rng.choice([0, 1, 3, 10, 40]))
        piece = rng.choice(["", text[a:b] * 2, rng.choice(WORDS), rng.choice(WORDS), chr(rng.randrange(1, 0x250))])
        if rng.random() < 0.5:  # a whole value
            ends = [i for i, c in enumerate(text) if c in ",}\n"]
            starts = [i + 2 for i, c in enumerate(text) if text[i : i + 2] == ": "]
            a = rng.choice(starts or [0])
            b = min((e for e in ends if e >= a), default=len(text))
        text = text[:a] + piece + text[b:]
    return text


def outcome(path: Path) -> str:
    try:
        recipe = read(path)
    except RecipeError as error:
        assert error.problems and all(line.strip() and "\n" not in line for line in error.problems), error.problems
        return "error"
    assert isinstance(recipe, Recipe)
    return "recipe"


def test_any_text_gives_a_recipe_or_a_recipe_error(tmp_path: Path) -> None:
    rng, path, seen = random.Random(0), tmp_path / "r.yaml", {"error": 0, "recipe": 0}
    for _ in range(ROUNDS):
        text = mutated(TEXT, rng)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            seen[outcome(path)] += 1
        except Exception as error:
            pytest.fail(f"{type(error).__name__}: {error}\n--- for ---\n{text[:2000]}")
    assert min(seen.values()) > ROUNDS // 100, f"the mutations test only one side: {seen}"


def test_a_recipe_that_survives_mutation_reads_back(tmp_path: Path) -> None:
    rng, path, again = random.Random(1), tmp_path / "r.yaml", tmp_path / "again.yaml"
    survivors = 0
    for _ in range(ROUNDS // 4):
        path.write_bytes(mutated(TEXT, rng).encode("utf-8", "surrogatepass"))
        try:
            recipe = read(path)
        except RecipeError:
            continue
        again.write_text(recipe.to_yaml(), encoding="utf-8")
        assert read(again) == recipe
        assert read(again).digest() == recipe.digest()
        survivors += 1
    assert survivors > ROUNDS // 200


def test_any_override_gives_a_recipe_or_a_recipe_error(tmp_path: Path) -> None:
    rng, path = random.Random(2), tmp_path / "r.yaml"
    path.write_text(TEXT, encoding="utf-8")
    for _ in range(ROUNDS // 10):
        overrides = [f"{rng.choice(KEYS)}={rng.choice(WORDS)}" for _ in range(rng.randint(1, 3))]
        try:
            assert isinstance(read(path, overrides), Recipe)
        except RecipeError as error:
            assert error.problems, overrides
