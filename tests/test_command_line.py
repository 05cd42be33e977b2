"""What a stranger meets first: help, listings, mistakes; nothing heavy is imported for them."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str, str]]
HEAVY = ("torch", "torchvision", "mlflow", "numpy", "pydantic", "jsonschema", "sklearn", "PIL")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["plugins"], ["recipes"], ["run", "--help"]])
def test_light_commands_import_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\nfrom dmf.runner.cli import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("words", [["--help"], ["plugins"], ["recipes"]])
def test_light_commands_take_under_a_fifth_of_importing_torch(words: list[str]) -> None:
    def seconds(command: list[str]) -> float:
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        return time.perf_counter() - start

    light = [sys.executable, "-m", "dmf", *words]
    pairs = [(seconds(light), seconds([sys.executable, "-c", "import torch"])) for _ in range(3)]
    assert sorted(a / b for a, b in pairs)[1] < 0.2  # the median of pairs: the machine may be busy


def test_every_command_has_help(dmf_command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    from dmf.runner.commands import COMMANDS

    for name in COMMANDS:
        with pytest.raises(SystemExit) as stop:
            dmf_command(name, "--help")
        assert stop.value.code == 0
        assert "usage: dmf " + name in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("name: a\nbackbon: dit\n", ":2:1:", "backbone"),
        ("name: a\ntrain: {stepz: 3}\n", ":2:9:", "steps"),
        ("name: a\nname: b\n", ":2:1:", "repeated"),
        ("- a\n- b\n", ":1:1:", "mapping"),
        ("name: [\n", ":2:1:", ""),
    ],
)
def test_a_bad_recipe_is_told_with_its_place(
    workdir: Path, dmf_command: Command, text: str, place: str, said: str
) -> None:
    (workdir / "bad.yaml").write_text(text)
    code, out, err = dmf_command("run", "bad.yaml")
    assert code == 2 and out == ""
    assert f"bad.yaml{place}" in err and said in err and "Traceback" not in err
    assert not (workdir / "runs").exists()


def test_a_missing_recipe_names_the_nearest(workdir: Path, dmf_command: Command) -> None:
    code, _, err = dmf_command("run", "digit_dit.yaml")
    assert code == 2 and "digits_dit" in err


def test_an_override_is_checked(tiny: Path, dmf_command: Command) -> None:
    code, _, err = dmf_command("validate", tiny, "train.stepz=3", "seed=many")
    assert code == 2 and "train.stepz=3" in err and "'steps'" in err and "seed" in err
    assert dmf_command("validate", tiny, "train.warmup=3", "sampler.churn=2")[0] == 0


def test_a_valid_recipe_says_what_is_not_yet_checked(tiny: Path, dmf_command: Command) -> None:
    code, out, _ = dmf_command("validate", tiny, "backbone.patch=3")  # of images of 8 x 8, which only the data says
    assert code == 0 and "a valid recipe" in out
    assert out.endswith("image sizes and the network are checked against the data when a run starts\n")


def test_plugins_as_json(dmf_command: Command) -> None:
    rows = json.loads(dmf_command("plugins", "--json")[1])
    assert {"kind", "name", "summary", "distribution", "version", "target", "problem"} == set(rows[0])
    assert {(r["kind"], r["name"]) for r in rows} >= {("sampler", "heun"), ("backbone", "dit"), ("hook", "mlflow")}
    assert all(r["problem"] is None and r["summary"] for r in rows if r["distribution"] == "dmf")
    only = json.loads(dmf_command("plugins", "sampler", "--json")[1])
    assert {r["kind"] for r in only} == {"sampler"}


def test_overrides_may_stand_anywhere(tiny: Path, dmf_command: Command) -> None:
    code, out, _ = dmf_command("validate", tiny, "seed=3", "--print", "train.steps=7")
    assert code == 0 and "seed: 3" in out and "steps: 7" in out
    with pytest.raises(SystemExit) as stop:
        dmf_command("validate", tiny, "--print", "steps")
    assert stop.value.code == 2


def test_an_unknown_command_is_the_users_mistake(dmf_command: Command) -> None:
    with pytest.raises(SystemExit) as stop:
        dmf_command("runn")
    assert stop.value.code == 2
