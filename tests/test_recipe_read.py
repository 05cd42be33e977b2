"""Recipes as they are read: filled in, written back, with parts of plugins; shipped ones; the schema; differences."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from recipe_kit import GOOD, changed, path_fixture, problems  # noqa: F401  (fixtures)
from registry_kit import SAMPLER, Install, install_fixture  # noqa: F401  (fixtures)

from dmf.registry import PartRef, Recipe, RecipeError, differences, read, recipe_schema
from dmf.registry.shipped import headline, place, shipped, text


def test_a_good_recipe_is_filled_in(path: Path) -> None:
    path.write_text(GOOD, encoding="utf-8")
    recipe = read(path)
    assert (recipe.name, recipe.train.steps, recipe.train.lr, recipe.train.optimizer.options["betas"]) == (
        "digits-dit",
        800,
        1e-3,
        [0.9, 0.999],
    )
    assert [(ref.name, ref.options["decay"]) for ref in recipe.train.ema] == [("fixed", 0.995)]
    assert recipe.backbone.options["mlp_ratio"] == 4.0 and recipe.prediction == PartRef("flow", {})
    assert (recipe.sampler.name, recipe.sampler.steps, recipe.sampler.grid) == ("heun", 20, None)
    assert recipe.sampler.guidance == PartRef("cfg", {"scale": 2.0})
    assert recipe.evaluate.metrics[0] == PartRef("frechet", {"features": "digits", "layer": None})
    assert [h.name for h in recipe.hooks] == ["mlflow"] and recipe.hooks[0].options["experiment"] == "dmf"
    assert recipe.train.objective == PartRef("l2", {}) and recipe.codec == PartRef("pixels", {})


def test_it_is_written_whole_and_read_back_equal(path: Path) -> None:
    path.write_text(GOOD, encoding="utf-8")
    recipe = read(path, ["sampler.grid=karras", "train.clip=null", 'init_from="012"', "dataset.split=all"])
    again = path.with_name("again.yaml")
    again.write_text(recipe.to_yaml(), encoding="utf-8")
    assert read(again) == recipe
    assert read(again).to_yaml() == recipe.to_yaml() and read(again).digest() == recipe.digest()
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    found = recipe.as_dict()
    assert list(found)[:8] == ["name", "seed", "device", "dataset", "loading", "codec", "latents", "augment"]
    assert found["prediction"] == "flow" and found["dataset"] == {"name": "digits", "split": "all", "size": None}
    assert found["sampler"]["grid"]["rho"] == 7.0 and found["init_from"] == "012"
    assert json.loads(json.dumps(found)) == found


def test_the_digest_is_of_the_meaning_not_the_text(path: Path) -> None:
    path.write_text(GOOD, encoding="utf-8")
    one = read(path).digest()
    path.write_text(changed("lr: 1e-3", "lr: 0.001, ema: 0.995").replace(", ema: 0.995}", "}") + "log: {every: 20}\n")
    assert read(path).digest() == one
    assert read(path, ["seed=1"]).digest() != one


def test_integral_floats_are_integers(path: Path) -> None:
    path.write_text(changed("steps: 800", "steps: 1e5"), encoding="utf-8")
    steps = read(path).train.steps
    assert steps == 100_000 and type(steps) is int


def test_a_broken_plugin_is_named_where_the_recipe_needs_it(path: Path, install: Install) -> None:
    install("zork-sampler", {"dmf.samplers": "zork = zork_broken:Zork"}, {"zork_broken.py": "import gone_for_good"})
    assert problems(path, changed("name: heun", "name: zork")) == [
        "r.yaml:8:12: sampler: sampler 'zork' of zork-sampler 0.1 (zork_broken:Zork) cannot be imported: "
        "ModuleNotFoundError: No module named 'gone_for_good'"
    ]
    path.write_text(GOOD, encoding="utf-8")
    assert read(path)  # everything else works


def test_a_plugin_whose_options_cannot_be_written_is_named_too(path: Path, install: Install) -> None:
    source = SAMPLER.replace("= 1) -> None", "= 1, **more: int) -> None")
    install("zork-sampler", {"dmf.samplers": "zork = zork_star:Zork"}, {"zork_star.py": source})
    assert problems(path, changed("name: heun", "name: zork")) == [
        "r.yaml:8:12: sampler: sampler Zork: **more hides its options; each must be spelt out, with its type"
    ]


def test_a_third_party_sampler_in_a_recipe(path: Path, install: Install) -> None:
    install("zork-sampler", {"dmf.samplers": "zork = zork_good:Zork"}, {"zork_good.py": SAMPLER})
    path.write_text(changed("name: heun", "name: zork, flair: 2"), encoding="utf-8")
    assert read(path).sampler.options == {"flair": 2.0}
    assert problems(path, changed("name: heun", "name: zork, flare: 2")) == [
        "r.yaml:8:24: sampler.flare: unknown key, expected one of flair; did you mean 'flair'?"
    ]


def test_two_plugins_of_one_name_are_an_error_in_the_recipe(path: Path, install: Install) -> None:
    install("zork-heun", {"dmf.samplers": "heun = zork_heun:Heun"})
    found = problems(path, GOOD)
    assert len(found) == 1 and found[0].startswith("r.yaml:8:12: sampler: sampler 'heun' is claimed by ")
    assert "zork-heun 0.1" in found[0] and "dmf " in found[0]


def test_shipped_recipes_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shipped()
    for name in shipped():
        assert isinstance(read(name), Recipe) and read(f"{name}.yaml") == read(name)
        assert headline(name) and os.path.isfile(place(name))
    (tmp_path / "digits_dit").mkdir()  # a folder of that name, such as a run's, does not hide it
    assert read("digits_dit").name == read("digits_dit.yaml").name
    with pytest.raises(RecipeError, match="unknown recipe 'digits_dti'; did you mean 'digits_dit'"):
        text("digits_dti")
    with pytest.raises(RecipeError, match="did you mean 'digits_dit'"):
        read("digit_dit")


def test_a_file_comes_before_a_shipped_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits_dit.yaml").write_text(changed("name: digits-dit", "name: mine"))
    assert read("digits_dit.yaml").name == "mine"


def test_the_schema_is_complete_and_described() -> None:
    found = recipe_schema()
    jsonschema.Draft202012Validator.check_schema(found)

    def undescribed(node: dict[str, Any], path: str) -> list[str]:
        missing = [] if node.get("description") or path.endswith(".name") or not path else [path]
        return missing + [p for k, v in node.get("properties", {}).items() for p in undescribed(v, f"{path}.{k}")]

    assert undescribed(found, "") == []
    assert found["required"] == ["name", "dataset", "backbone", "schedule", "prediction", "train"]
    assert found["properties"]["train"]["required"] == ["steps", "batch_size", "lr"]
    assert found["properties"]["train"]["properties"]["ema"]["default"] == ["fixed"]
    assert found["properties"]["hooks"]["default"] == ["mlflow"]
    assert found["properties"]["sampler"]["default"]["name"] == "adams"
    assert found["properties"]["sampler"]["properties"]["guidance"]["default"] == {"name": "cfg", "scale": 1.0}


def test_differences_are_one_line_each(path: Path) -> None:
    path.write_text(GOOD, encoding="utf-8")
    old = read(path)
    assert differences(old, read(path)) == []
    new = read(path, ["backbone.hidden=256", "schedule=cosine", "hooks=[]", "train.clip=null", "dataset.split=all"])
    assert differences(old, new) == [
        "dataset.split: train -> all",
        "backbone.hidden: 128 -> 256",
        "schedule.name: flow -> cosine",
        "schedule.steps: (none) -> 1000",
        "schedule.offset: (none) -> 0.008",
        "schedule.beta_max: (none) -> 0.999",
        "schedule.zero_terminal_snr: (none) -> false",
        "train.clip: 1.0 -> null",
        "hooks: (none) -> []",
        "schedule.shift: 1.0 -> (none)",
        "hooks.0.name: mlflow -> (none)",
        *(
            f"hooks.0.{k}: {json.dumps(v) if not isinstance(v, str) else v} -> (none)"
            for k, v in old.hooks[0].options.items()
        ),
    ]
