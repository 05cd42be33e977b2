"""A package from outside is installed with pip, listed, built, and used by a recipe; a broken one harms nobody else."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plugin package in it, put there by pip from a copy of its source."""
    folder = tmp_path_factory.mktemp("thirdparty")
    shutil.copytree(
        ROOT / "tests/thirdparty_plugin", folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info")
    )
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", folder / "site", folder / "source"], check=True, timeout=300)
    return folder / "site"


def dmf(site: Path, *words: object, expect: int = 0, **environment: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-m", "dmf", *map(str, words)], text=True, env=env, capture_output=True, timeout=300
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_it_is_listed(site: Path) -> None:
    listed = json.loads(dmf(site, "plugins", "--json"))
    (mine,) = [row for row in listed if row["name"] == "acme_dpmpp_2m"]
    assert mine["kind"] == "sampler" and mine["distribution"] == "acme-sampler" and mine["version"] == "0.1"
    assert mine["summary"].startswith("DPM-Solver++(2M)") and mine["problem"] is None


def test_a_recipe_uses_it(site: Path, tiny: Path) -> None:
    scores = "evaluate={images: 20, held_out: false, metrics: [{name: frechet, features: digits}]}"
    dmf(site, "run", tiny, "sampler.name=acme_dpmpp_2m", scores)
    run = tiny.parent / "runs/tiny"
    protocol = json.loads((run / "metrics.json").read_text())["frechet_digits"]["protocol"]
    assert protocol["version.acme-sampler"] == "0.1"  # another version may make other images
    assert (run / "samples/grid.png").exists()
    assert json.loads((run / "facts.json").read_text())["part.sampler:acme_dpmpp_2m"] == "acme-sampler 0.1"


def test_dmf_plugins_can_leave_it_out(site: Path, tiny: Path) -> None:
    assert "acme_dpmpp_2m" not in dmf(site, "plugins", DMF_PLUGINS="")
    out = dmf(site, "validate", tiny, "sampler.name=acme_dpmpp_2m", expect=2, DMF_PLUGINS="")
    assert "acme_dpmpp_2m" in out and "Traceback" not in out


def test_it_keeps_the_samplers_contract(site: Path, workdir: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "--dmf-part", "sampler:acme_dpmpp_2m"]
    done = subprocess.run(command, cwd=workdir, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and " passed in" in done.stdout, done.stdout + done.stderr


def test_a_broken_one_harms_only_the_recipe_that_needs_it(site: Path, workdir: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(site, broken)
    (broken / "acme_sampler/__init__.py").write_text('"""Broken."""\nimport no_such_library\n')
    recipe = workdir / "tiny.yaml"
    recipe.write_text(TINY, encoding="utf-8")
    assert "BROKEN" in dmf(broken, "plugins")
    dmf(broken, "validate", recipe)
    out = dmf(broken, "validate", recipe, "sampler.name=acme_dpmpp_2m", expect=2)
    assert "acme-sampler" in out and "no_such_library" in out and "Traceback" not in out
    assert "no_such_library" in dmf(broken, "plugins", "sampler", "--check", expect=1)
