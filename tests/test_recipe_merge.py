"""``extends`` and overrides: what wins, what is dropped, and where a mistake is said to be."""

from pathlib import Path

import pytest
from registry_kit import SAMPLER, Install, install_fixture  # noqa: F401

from dmf.registry import PartRef, Recipe, RecipeError, parts, read, recipe_schema
from dmf.registry.words import cut

KEYS = ", ".join(recipe_schema()["properties"])
TRAIN_KEYS = ", ".join(recipe_schema()["properties"]["train"]["properties"])
SAMPLERS = ", ".join(p.name for p in parts("sampler"))
BASE = """\
name: base
dataset:  digits
backbone: {name: dit, hidden: 128, depth: 4, heads: 4}
schedule: {name: cosine, offset: 0.01}
prediction: flow
train:    {steps: 800, batch_size: 128, lr: 1e-3, density: {name: logit_normal, mean: 1}}
sampler:  {name: ddim, eta: 0.5, steps: 20, guidance: {name: cfg, scale: 3}, grid: {name: karras, rho: 5}}
evaluate: {images: 10, metrics: [{name: kernel, features: {name: digits}, subsets: 7}]}
hooks: []
"""


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.write("base.yaml", BASE)

    def write(self, name: str, text: str) -> Path:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(text, encoding="utf-8")
        return self.path / name

    def child(self, text: str, *overrides: str) -> Recipe:
        return read(self.write("child.yaml", f"extends: base.yaml\n{text}"), overrides)

    def problems(self, text: str, *overrides: str) -> list[str]:
        with pytest.raises(RecipeError) as error:
            self.child(text, *overrides)
        return [p.replace(f"{self.path}/", "") for p in error.value.problems]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


# extends


def test_mappings_merge_deep_and_lists_are_replaced(folder: Folder) -> None:
    recipe = folder.child(
        "name: child\ntrain: {lr: 2e-3}\nbackbone: {hidden: 64}\n"
        "evaluate: {metrics: [{name: frechet, features: digits}]}\nlog: {every: 5}\n"
    )
    assert (recipe.name, recipe.train.steps, recipe.train.lr, recipe.log.every) == ("child", 800, 2e-3, 5)
    assert (recipe.backbone.options["hidden"], recipe.backbone.options["depth"]) == (64, 4)
    assert (recipe.evaluate.images, [m.name for m in recipe.evaluate.metrics]) == (10, ["frechet"])


def test_a_new_name_drops_the_old_parts_options(folder: Folder) -> None:
    recipe = folder.child("schedule: {name: linear}\ntrain: {density: {name: uniform}}\n")
    assert recipe.schedule == PartRef("linear", {"steps": 1000, "low": 1e-4, "high": 0.02, "zero_terminal_snr": False})
    assert recipe.train.density == PartRef("uniform", {})


def test_the_same_name_keeps_them(folder: Folder) -> None:
    assert folder.child("schedule: {name: cosine}").schedule.options["offset"] == 0.01


def test_a_bare_name_drops_them_even_if_it_is_the_same(folder: Folder) -> None:
    assert folder.child("schedule: cosine").schedule.options["offset"] == 0.008
    assert folder.child("schedule: flow").schedule == PartRef("flow", {"shift": 1.0})


@pytest.mark.parametrize("text", ["sampler: {name: heun}", "sampler: heun"])
def test_a_new_sampler_keeps_what_stands_beside_its_options(folder: Folder, text: str) -> None:
    found = folder.child(text).sampler
    assert "eta" not in found.options and (found.name, found.steps) == ("heun", 20)
    assert found.guidance == PartRef("cfg", {"scale": 3.0}) and found.grid is not None
    assert (found.grid.name, found.grid.options["rho"]) == ("karras", 5.0)


def test_guidance_as_a_number_over_a_mapping_and_back(folder: Folder) -> None:
    assert folder.child("sampler: {guidance: 7}").sampler.guidance == PartRef("cfg", {"scale": 7.0})
    assert folder.child("sampler: {guidance: {scale: 7}}").sampler.guidance == PartRef("cfg", {"scale": 7.0})
    assert folder.child("sampler: {grid: null}").sampler.grid is None


def test_options_of_a_bare_base_can_be_added(folder: Folder) -> None:
    assert folder.child("dataset: {split: all}").dataset == PartRef("digits", {"split": "all", "size": None})


def test_a_default_part_may_be_given_options_without_its_name(folder: Folder) -> None:
    folder.write("base.yaml", BASE.replace(", guidance: {name: cfg, scale: 3}", ""))
    assert folder.child("sampler: {guidance: {scale: 4}}").sampler.guidance == PartRef("cfg", {"scale": 4.0})


NESTED = (
    SAMPLER.replace("flair: Annotated[float, Ge(0)] = 1", "judge: FeatureExtractor, flair: float = 1").replace(
        "import Sampler", "import FeatureExtractor, Sampler"
    )
    + """

class Eye(FeatureExtractor):
    def __init__(self, wide: int = 1) -> None: ...


class Ear(Eye):
    def __init__(self, loud: int = 1) -> None: ...
"""
)


def test_a_new_name_drops_options_also_of_a_part_in_a_part(folder: Folder, install: Install) -> None:
    entries = {"dmf.samplers": "zork = zork_deep:Zork", "dmf.features": "eye = zork_deep:Eye\near = zork_deep:Ear"}
    install("zork", entries, {"zork_deep.py": NESTED})
    folder.write("mid.yaml", "extends: base.yaml\nsampler: {name: zork, judge: {name: eye, wide: 3}, flair: 2}\n")

    def judge(text: str, *overrides: str) -> object:
        return read(folder.write("child.yaml", f"extends: mid.yaml\n{text}"), overrides).sampler.options["judge"]

    assert judge("") == {"name": "eye", "wide": 3}
    assert judge("sampler: {judge: {name: ear}}") == {"name": "ear", "loud": 1}
    assert judge("sampler: {judge: {name: eye}}") == {"name": "eye", "wide": 3}
    assert judge("sampler: {judge: ear}") == {"name": "ear", "loud": 1}
    assert judge("", "sampler.judge.loud=5", "sampler.judge.name=ear") == {"name": "ear", "loud": 5}
    assert judge("sampler: {judge: ear}", "sampler.judge.loud=5") == {"name": "ear", "loud": 5}


def test_a_missing_key_points_at_the_file_that_was_read(folder: Folder) -> None:
    folder.write("base.yaml", BASE.replace("batch_size: 128, ", ""))
    assert folder.problems("\ntrain: {steps: 3}") == [
        "child.yaml:3:1: train.batch_size: missing, expected an integer of at least 1"
    ]


def test_chains_and_folders(folder: Folder) -> None:
    folder.write("deep/mid.yaml", "extends: ../base.yaml\ntrain: {steps: 5}\nname: mid\n")
    recipe = read(folder.write("deep/er/leaf.yaml", "extends: ../mid.yaml\ntrain: {lr: 1}\n"))
    assert (recipe.name, recipe.train.steps, recipe.train.lr, recipe.train.batch_size) == ("mid", 5, 1.0, 128)


def test_a_shipped_recipe_can_be_extended(folder: Folder) -> None:
    path = folder.write("child.yaml", "extends: digits_dit\nname: child\n")
    assert read(path).train == read("digits_dit").train


def test_extends_that_leads_nowhere(folder: Folder) -> None:
    path = folder.write("child.yaml", "name: x\nextends: bace.yaml\n")
    with pytest.raises(RecipeError) as error:
        read(path)
    assert str(error.value).startswith(
        f"{path}:2:1: extends: bace.yaml: there is no such file in {folder.path}, and no shipped recipe of that name; "
        f"did you mean '{folder.path}/base.yaml'"
    )
    with pytest.raises(RecipeError, match=r"child.yaml:1:1: extends: got a list of 1, expected a file or a shipped"):
        read(folder.write("child.yaml", "extends: [base.yaml]\n"))
    with pytest.raises(RecipeError, match=r"child.yaml:1:1: extends: got null, expected a file or a shipped"):
        read(folder.write("child.yaml", "extends:\n"))


@pytest.mark.parametrize(
    "name", ["x" * 300, "x" * 300 + "/y", r'"a\0b"', r'"a\nb"', "/", "''", "~/x", "'[ab'", "**/x.yaml"]
)
def test_extends_of_an_impossible_name(folder: Folder, name: str) -> None:
    with pytest.raises(RecipeError) as error:
        read(folder.write("child.yaml", f"extends: {name}\n"))
    assert len(str(error.value).splitlines()) == 1


def test_extends_in_a_circle(folder: Folder) -> None:
    a, b = folder.write("a.yaml", "extends: b.yaml\n"), folder.write("b.yaml", "\nextends: ./a.yaml\n")
    with pytest.raises(RecipeError) as error:
        read(a)
    assert str(error.value) == f"{b}:2:1: extends: goes in a circle: {a} -> {b} -> {a}"
    with pytest.raises(RecipeError, match=r"self.yaml:1:1: extends: goes in a circle"):
        read(folder.write("self.yaml", "extends: self.yaml\n"))


def test_a_mistake_is_said_to_be_in_the_file_that_holds_it(folder: Folder) -> None:
    folder.write("base.yaml", BASE.replace("steps: 800", "steps: no"))
    assert folder.problems("name: child\nseed: x\n") == [
        "base.yaml:6:12: train.steps: got 'no', expected an integer of at least 1",
        "child.yaml:3:1: seed: got 'x', expected an integer of at least 0 and below 9223372036854775808",
    ]


# overrides


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("train.steps=500", "train.steps", 500),
        ("train.lr=1e-4", "train.lr", 1e-4),
        ("train.optimizer.betas=[0.5, 0.6]", "train.optimizer.options.betas", [0.5, 0.6]),
        ("evaluate.during.metrics=[]", "evaluate.during.metrics", ()),
        ("train.clip=null", "train.clip", None),
        ("name=b", "name", "b"),
        ("log.every=7", "log.every", 7),  # known, and left out by the file
        ("train.objective.name=l1", "train.objective", PartRef("l1", {})),
        ("train.objective=l1", "train.objective", PartRef("l1", {})),
        ("init_from=a=b", "init_from.source", "a=b"),
        ("evaluate.metrics.0.subsets=9", "evaluate.metrics.0.options.subsets", 9),
        ("evaluate.metrics.0.features=digits", "evaluate.metrics.0.options.features", "digits"),
        ("evaluate.metrics.0.features.name=digits", "evaluate.metrics.0.options.features", "digits"),
        ("evaluate.metrics.0.name=frechet", "evaluate.metrics.0.name", "frechet"),
        ("sampler.guidance=1.5", "sampler.guidance.options.scale", 1.5),
        ("sampler.guidance.scale=1.5", "sampler.guidance.options.scale", 1.5),
        ("sampler.grid.name=uniform", "sampler.grid", PartRef("uniform", {})),
        ("sampler.grid=null", "sampler.grid", None),
        ("dataset.split=all", "dataset.options.split", "all"),
        ("hooks=[mlflow]", "hooks.0.name", "mlflow"),
    ],
)
def test_an_override(folder: Folder, override: str, path: str, value: object) -> None:
    found: object = (
        folder.child("", override)
        if "metrics.0.name" not in override
        else folder.child(
            "evaluate: {metrics: [{name: kernel, features: digits}]}", override, "evaluate.metrics.0.features=digits"
        )
    )
    for key in path.split("."):
        found = (
            found[int(key)]
            if isinstance(found, tuple)
            else found[key]
            if isinstance(found, dict)
            else getattr(found, key)
        )
    assert found == value and type(found) is type(value)


def test_a_default_list_can_be_reached_into(folder: Folder) -> None:
    folder.write("base.yaml", BASE.replace("hooks: []\n", ""))
    assert folder.child("", "hooks.0.experiment=other").hooks[0].options["experiment"] == "other"


def test_names_come_first_whatever_the_order(folder: Folder) -> None:
    for overrides in (
        ["sampler.churn=2", "sampler.name=heun"],
        ["sampler.name=heun", "sampler.churn=2"],
        ["sampler.churn=2", "sampler=heun"],
    ):
        found = folder.child("", *overrides).sampler
        assert (found.name, found.options["churn"], found.steps) == ("heun", 2.0, 20)
    assert folder.child("", "train.density.std=2", "train.density={name: logit_normal}").train.density == PartRef(
        "logit_normal", {"mean": 0.0, "std": 2.0}
    )


def test_a_mapping_replaces_the_old_one_whole(folder: Folder) -> None:
    found = folder.child("", "backbone={name: dit, hidden: 32}").backbone
    assert (found.options["hidden"], found.options["depth"]) == (32, None)
    assert folder.problems("", "sampler={name: heun}") == [
        "override sampler={name: heun}: sampler.steps: missing, expected an integer of at least 1"
    ]


def test_the_last_of_two_wins(folder: Folder) -> None:
    assert folder.child("", "seed=1", "seed=2").seed == 2


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        (
            "train.stepz=500",
            f"train.stepz: unknown key, expected one of {TRAIN_KEYS}; did you mean 'steps'?",
        ),
        ("sampler.etaa=1", "sampler.etaa: unknown key, expected one of eta; did you mean 'eta'?"),
        ("logg.every=1", f"logg: unknown key, expected one of {KEYS}; did you mean 'log'?"),
        ("train.steps=0", "train.steps: got 0, expected an integer of at least 1"),
        ("train.steps=5 apples", "train.steps: got '5 apples', expected an integer of at least 1"),
        ("train.steps=", "train.steps: got null, expected an integer of at least 1"),
        (
            "train.steps=[1",
            "broken YAML: did not find expected ',' or ']', while parsing a flow sequence that begins at line 1",
        ),
        ("train.steps.x=1", "train.steps is 800, which has no key 'x'"),
        (
            "evaluate.metrics.7.subsets=9",
            "evaluate.metrics is a list of 1, got '7', expected 0 to 0; or give the whole list",
        ),
        (
            "evaluate.metrics.-1.subsets=9",
            "evaluate.metrics is a list of 1, got '-1', expected 0 to 0; or give the whole list",
        ),
        ("hooks.0.uri=x", "hooks is a list of 0, got '0', expected nothing: it is empty; or give the whole list"),
        ("train.steps", "expected key=value, the key like train.steps"),
        ("train..steps=1", "expected key=value, the key like train.steps"),
        ("=1", "expected key=value, the key like train.steps"),
        ("extends=other.yaml", "extends can only stand in a file"),
        (
            "sampler.name=hein",
            f"sampler: unknown sampler 'hein'; did you mean 'heun'? known: {SAMPLERS} (parts come from "
            "installed packages: `dmf plugins` lists them)",
        ),
        (
            "evaluate.metrics.0.features.foo=1",
            "evaluate.metrics.0.features.foo: unknown key, expected one of none at all",
        ),
        ("dataset.split.x=1", "dataset.split: got a mapping of 1, expected one of train, test, all"),
        ("seed=1\n2", "seed: got '1 2', expected an integer of at least 0 and below 9223372036854775808"),
        ("a\nb=1", f"a\\nb: unknown key, expected one of {KEYS}"),
        ("a." * 70 + "a=1", "the key is more than 64 levels deep"),
        ("a." * 60 + "a=1", f"a: unknown key, expected one of {KEYS}"),
        ("train.lr=.nan", "train.lr: got nan, expected a finite number"),
        ("name=a\x00b", "broken YAML: the character \\x00 does not belong in a text"),
        ("name=\udcff", "broken YAML: the character \\udcff does not belong in a text"),
    ],
)
def test_an_override_that_is_wrong(folder: Folder, override: str, problem: str) -> None:
    shown = cut(override)
    assert folder.problems("", override) == [f"override {shown}: {problem}"]


def test_all_wrong_overrides_are_told_at_once(folder: Folder) -> None:
    assert len(folder.problems("", "a", "b=1", "train.steps=x", "train.optimizer.betas.7=1")) == 4
