"""Every kind of bad input gives file, line, column, path, what was got and what was expected; all of them at once."""

from pathlib import Path
from typing import Any

import pytest
from recipe_kit import GOOD, changed, path_fixture, problems  # noqa: F401  (fixtures)

from dmf.registry import RecipeError, load, parts, read, recipe_schema
from dmf.registry.options import schema
from dmf.registry.words import expected

SCHEMA = recipe_schema()["properties"]
TRAIN_KEYS = ", ".join(SCHEMA["train"]["properties"])
STRATEGIES = "expected " + expected(SCHEMA["distributed"]["properties"]["strategy"]) + "; did you mean 'ddp'?"
KEYS = (
    "name, extends, seed, device, dataset, loading, codec, latents, augment, backbone, schedule, prediction, train, "
    "compute, preview, sampler, sample, evaluate, checkpoint, log, hooks, distributed, init_from"
)
KNOWN = {kind: ", ".join(p.name for p in parts(kind)) for kind in ("sampler", "prediction", "features")}
HINT = "(parts come from installed packages: `dmf plugins` lists them)"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # a mistyped key, at any depth
        ("seed: 0", "sed: 0", f"r.yaml:2:1: sed: unknown key, expected one of {KEYS}; did you mean 'seed'?"),
        (
            "ema: 0.995",
            "emma: 0.9",
            f"r.yaml:7:71: train.emma: unknown key, expected one of {TRAIN_KEYS}; did you mean 'ema'?",
        ),
        (
            "depth: 4",
            "deptt: 4",
            "r.yaml:4:36: backbone.deptt: unknown key, expected one of "
            f"{', '.join(schema(load('backbone', 'dit'), 'backbone')['properties'])}; did you mean 'depth'?",
        ),
        (
            "guidance: 2.0",
            "guidance: {name: cfg, scale: 2, scael: 1}",
            "r.yaml:8:67: sampler.guidance.scael: unknown key, expected one of scale; did you mean 'scale'?",
        ),
        (
            "{name: frechet, features: digits}",
            "{name: frechet, features: {name: digits, k: 1}}",
            "r.yaml:9:77: evaluate.metrics.0.features.k: unknown key, expected one of none at all",
        ),
        # a wrong type
        ("steps: 800", "steps: many", "r.yaml:7:12: train.steps: got 'many', expected an integer of at least 1"),
        ("steps: 800", "steps: 1.5", "r.yaml:7:12: train.steps: got 1.5, expected an integer of at least 1"),
        ("steps: 800", "steps: true", "r.yaml:7:12: train.steps: got true, expected an integer of at least 1"),
        ("steps: 800", "steps: ~", "r.yaml:7:12: train.steps: got null, expected an integer of at least 1"),
        (
            "name: digits-dit",
            "name: 3",
            "r.yaml:1:1: name: got 3, expected a folder's name: up to 200 letters, digits, "
            "'.', '_', '-', none of '.-' first",
        ),
        (
            "name: digits-dit",
            "name: -x",
            "r.yaml:1:1: name: got '-x', expected a folder's name: up to 200 letters, digits, "
            "'.', '_', '-', none of '.-' first",
        ),
        (
            "name: digits-dit",
            "name: a/b",
            "r.yaml:1:1: name: got 'a/b', expected a folder's name: up to 200 letters, "
            "digits, '.', '_', '-', none of '.-' first",
        ),
        (
            "heads: 4",
            "heads: four",
            "r.yaml:4:46: backbone.heads: got 'four', expected an integer of at least 1 or null",
        ),
        (
            "{name: digits}",
            "5",
            "r.yaml:3:1: dataset: got 5, expected the name of a dataset or a mapping with its name and options",
        ),
        (
            "prediction: flow",
            "prediction: [flow]",
            "r.yaml:6:1: prediction: got a list of 1, expected the name of a "
            "prediction or a mapping with its name and options",
        ),
        ("seed: 0", "log: 5", "r.yaml:2:1: log: got 5, expected a mapping"),
        (
            "seed: 0",
            "hooks: 3",
            "r.yaml:2:1: hooks: got 3, expected a list, each the name of a hook or a mapping with its name and options",
        ),
        (
            "seed: 0",
            "augment: {flip: true}",
            "r.yaml:2:1: augment.0.name: missing, expected the name of an augmentation",
        ),
        (
            "seed: 0",
            "augment: [{name: flip, probability: yes}]",
            "r.yaml:2:24: augment.0.probability: got 'yes', expected a number of at least 0 and of at most 1",
        ),
        # a value out of range
        (
            "seed: 0",
            "seed: -1",
            "r.yaml:2:1: seed: got -1, expected an integer of at least 0 and below 9223372036854775808",
        ),
        ("lr: 1e-3", "lr: 0", "r.yaml:7:41: train.lr: got 0, expected a number above 0"),
        ("lr: 1e-3", "lr: .inf", "r.yaml:7:41: train.lr: got inf, expected a finite number"),
        ("lr: 1e-3", "lr: .nan", "r.yaml:7:41: train.lr: got nan, expected a finite number"),
        ("lr: 1e-3", "lr: 1e400", "r.yaml:7:41: train.lr: got inf, expected a finite number"),
        ("ema: 0.995", "ema: 1", "r.yaml:7:71: train.ema.0.decay: got 1, expected a number above 0 and below 1"),
        (
            "ema: 0.995",
            "optimizer: {name: adamw, betas: [0.9]}",
            "r.yaml:7:96: train.optimizer.betas: got a list of 1, expected a list of 2, each a number of at least 0 "
            "and below 1",
        ),
        (
            "ema: 0.995",
            "optimizer: {name: adamw, betas: [0.9, 1]}",
            "r.yaml:7:109: train.optimizer.betas.1: got 1, expected a number of at least 0 and below 1",
        ),
        (
            "ema: 0.995",
            "decay: cos",
            "r.yaml:7:71: train.decay: unknown decay 'cos'; did you mean 'cosine'? known: "
            f"{', '.join(p.name for p in parts('decay'))} "
            "(parts come from installed packages: `dmf plugins` lists them)",
        ),
        ("ema: 0.995", "clip: 0", "r.yaml:7:71: train.clip: got 0, expected a number above 0 or null"),
        ("seed: 0", "distributed: {strategy: dpp}", f"r.yaml:2:15: distributed.strategy: got 'dpp', {STRATEGIES}"),
        # an unknown part
        (
            "name: heun",
            "name: huen",
            f"r.yaml:8:12: sampler: unknown sampler 'huen'; did you mean 'heun'? known: {KNOWN['sampler']} {HINT}",
        ),
        (
            "prediction: flow",
            "prediction: flwo",
            "r.yaml:6:1: prediction: unknown prediction 'flwo'; did you mean "
            f"'flow'? known: {KNOWN['prediction']} {HINT}",
        ),
        (
            "{name: frechet, features: digits}",
            "{name: frechet, features: digit}",
            "r.yaml:9:52: evaluate.metrics.0."
            "features: unknown features 'digit'; did you mean 'digits'? known: " + f"{KNOWN['features']} {HINT}",
        ),
        # a missing key points at its parent
        (
            "seed: 0\ndataset:  {name: digits}",
            "seed: 0",
            "r.yaml:1:1: dataset: missing, expected the name of a dataset or a mapping with its name and options",
        ),
        ("lr: 1e-3, ", "", "r.yaml:7:1: train.lr: missing, expected a number above 0"),
        ("steps: 20, ", "", "r.yaml:8:1: sampler.steps: missing, expected an integer of at least 1"),
        (
            "{name: heun, steps: 20, guidance: 2.0}",
            "heun",
            "r.yaml:8:1: sampler.steps: missing, expected an integer of at least 1",
        ),
        ("{name: digits}", "{}", "r.yaml:3:1: dataset.name: missing, expected the name of a dataset"),
        (
            "{name: frechet, features: digits}",
            "frechet",
            "r.yaml:9:36: evaluate.metrics.0.features: missing, expected the "
            "name of features or a mapping with its name and options",
        ),
        # YAML
        ("seed: 0", "name: x", "r.yaml:2:1: repeated key 'name', first at line 1"),
        (
            "seed: 0",
            "seed: [0",
            "r.yaml:3:8: broken YAML: did not find expected ',' or ']', while parsing a flow sequence "
            "that begins at line 2",
        ),
        (
            "seed: 0",
            "seed: !!int 0",
            "r.yaml:2:7: the tag 'tag:yaml.org,2002:int' is not for recipes; write the value without it",
        ),
    ],
)
def test_each_mistake_gives_exactly_one_message(path: Path, old: str, new: str, expected: str) -> None:
    assert problems(path, changed(old, new)) == [expected]


def test_all_mistakes_are_told_at_once_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("r.yaml")  # sorts behind "override" as a text
    text = changed("seed: 0", "seed: -1").replace("hidden", "hiden").replace("lr: 1e-3", "lr: fast")
    text = text.replace("flow}", "f}").replace("heun", "hein").replace("images: 1000", "images: -5")
    found = problems(path, text, "train.emma=1", "log.every=0")
    assert [p.split(": ")[0] + ": " + p.split(": ")[1] for p in found] == [
        "r.yaml:2:1: seed",
        "r.yaml:4:23: backbone.hiden",
        "r.yaml:5:12: schedule",
        "r.yaml:7:41: train.lr",
        "r.yaml:8:12: sampler",
        "r.yaml:9:12: evaluate.images",
        "override log.every=0: log.every",
        "override train.emma=1: train.emma",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "r.yaml:1:1: the file is empty, expected a mapping with name, dataset, backbone and so on"),
        ("# nothing\n", "r.yaml:1:1: the file is empty, expected a mapping with name, dataset, backbone and so on"),
        ("- a\n- b\n", "r.yaml:1:1: got a list of 2, expected a mapping with name, dataset, backbone and so on"),
        ("just words\n", "r.yaml:1:1: got 'just words', expected a mapping with name, dataset, backbone and so on"),
    ],
)
def test_a_file_that_holds_no_recipe(path: Path, text: str, message: str) -> None:
    assert problems(path, text) == [message]


def test_files_that_cannot_be_read(tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(GOOD, encoding="utf-8")
    with pytest.raises(RecipeError) as error:
        read(tmp_path / "rr.yaml")
    assert str(error.value).startswith(
        f"{tmp_path / 'rr.yaml'}: there is no such file, and no shipped recipe of that "
        f"name; did you mean '{path}'?; shipped recipes: "
    )
    with pytest.raises(RecipeError, match="cannot be read: is a directory"):
        read(tmp_path)
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    with pytest.raises(RecipeError, match=r"r.yaml:1: byte 0x89 is not UTF-8"):
        read(path)
    path.write_bytes(b"a\0b")
    with pytest.raises(RecipeError, match=r"r.yaml:1:2: broken YAML: the character \\x00 does not belong in a text"):
        read(path)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything, so a mode would prove nothing
    with pytest.raises(RecipeError, match=r"r.yaml: cannot be read: permission denied"):
        read(path)
