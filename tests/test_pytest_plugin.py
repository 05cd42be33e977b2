"""``pytest --dmf-part``: what it collects, what it says, and that it costs nobody anything who does not use it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from registry_kit import Install
from registry_kit import install_fixture as install_fixture

from dmf.registry import UserError
from dmf.testing import Setting, cases, check_part
from dmf.testing.settings import bounds, full_settings
from dmf.testing.wanted import read

PARTS = '''
from typing import Annotated, Any, Literal

from annotated_types import Ge

from dmf.core import Dataset, Metric, Sampler, predictions
from dmf.testing import Arc


class Late(Sampler):
    """Declares too much."""

    order = 2

    def step(self, denoise, x, now, then, state, context):
        x0 = denoise(x, now)
        return then.mix(x0, now.noise_in(x, x0)), None


class Loose(Late):
    order = 1

    def step(self, denoise, x, now, then, state, context):
        return super().step(denoise, x.mean(0), now, then, state, context)[0][:, None, None, None], None


class Stuck(Arc):
    """A schedule that a mode breaks.

    Args:
        speed: Of no use.
    """

    def __init__(self, *, mode: Literal["go", "stop"] = "go", speed: Annotated[float, Ge(0)] = 1.0) -> None:
        if mode == "stop":
            raise ValueError("stopped")
        if speed == 0:
            raise ValueError("too slow")


def named(level: Any, sigma_data: float) -> Any:
    return predictions.v(level, sigma_data)._replace(c_skip=level.t)


class Far(Dataset):
    """Images that are elsewhere."""

    def __init__(self) -> None:
        raise ValueError("no images in /far; put them there")

    def __len__(self):
        return 0

    def __getitem__(self, i):
        raise IndexError(i)


class Asking(Metric):
    """Wants to be told where.

    Args:
        where: A folder.
    """

    def __init__(self, *, where: str) -> None:
        super().__init__()

    def update(self, images, **given):
        pass

    def compute(self):
        return {}
'''
ENTRIES = {
    "dmf.samplers": "late = parts_x:Late\nloose = parts_x:Loose\ngone = parts_x:Gone",
    "dmf.schedules": "stuck = parts_x:Stuck",
    "dmf.predictions": "named = parts_x:named",
    "dmf.datasets": "far = parts_x:Far",
    "dmf.metrics": "asking = parts_x:Asking",
}


def run(folder: Path, *words: str, expect: int, site: Path | None = None) -> str:
    """The output of pytest in a folder."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(site or ""), "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_who_does_not_use_it_does_not_wait_for_it(tmp_path: Path) -> None:
    (tmp_path / "test_light.py").write_text(
        "import sys\n\n\ndef test_light():\n"
        "    assert 'dmf.testing.plugin' in sys.modules\n"
        "    heavy = {'torch', 'numpy', 'scipy', 'pydantic', 'yaml', 'dmf.registry', 'dmf.core'} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
    )
    assert "1 passed" in run(tmp_path, "-q", expect=0)
    timed = "import pytest, time; t = time.perf_counter(); import dmf.testing.plugin; print(time.perf_counter() - t)"
    seconds = [float(subprocess.check_output([sys.executable, "-c", timed])) for _ in range(3)]
    assert min(seconds) < 0.1, seconds


def test_it_checks_the_part_and_collects_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("raise RuntimeError('this file is nobody's business')\n")
    out = run(tmp_path, "-v", "--dmf-part", "sampler:ddim,eta=0.5", "--dmf-part=grid:uniform", expect=0)
    lines = [line for line in out.splitlines() if re.search(r"PASSED|FAILED|SKIPPED|ERROR", line)]
    wanted = [(c.setting.name, c.name) for c in [*cases("sampler", "ddim", {"eta": 0.5}), *cases("grid", "uniform")]]
    assert [tuple(line.split()[0].split("::")) for line in lines] == wanted
    assert "sampler:ddim,eta=0.5::moments PASSED" in out and "test_other" not in out


@pytest.mark.parametrize("folder", [ROOT, ROOT.parent], ids=["root", "above"])
def test_the_checkout_is_not_taken_for_a_package_of_tests(folder: Path) -> None:
    words = ["-q", "--dmf-part", "prediction:v", "-o", "addopts="]
    assert re.search(r"\b8 passed", run(folder, *words, expect=0))


def test_failures_are_sentences_and_what_cannot_be_had_is_skipped(tmp_path: Path, install: Install) -> None:
    site = install("parts-x", ENTRIES, {"parts_x.py": PARTS})
    words = [f"--dmf-part={kind}" for kind in ("sampler:late", "sampler:loose", "sampler:gone", "schedule:stuck")]
    words += [f"--dmf-part={kind}" for kind in ("prediction:named", "dataset:far", "metric:asking")]
    out = run(tmp_path, "-q", "-rs", *words, expect=1, site=site)
    for sentence in (
        "Late declares order 2; measured is 0.99",
        "sampler 'gone' of parts-x 0.1 (parts_x:Gone) cannot be imported",
        "schedule:stuck,mode=stop is allowed by the schema and does not work",
        "schedule:stuck,speed=0.0 is allowed by the schema, and refused without naming an option",
        "schedule:stuck: the docstring says nothing of mode; add them under `Args:`",
        "prediction:named has no summary: begin the docstring of parts_x:named",
        "named depends on the time of a level",
        "no images in /far; put them there",
        "metric:asking has no default for where; write metric:asking,where=...",
    ):
        assert sentence in out, sentence
    # an error of the part's own is shown with the part's lines, and with none of the kit's
    assert re.search(r"sampler:loose raised \w+Error in builds", out) and "in step\n    return super()" in out
    assert "Traceback" not in out and "testing/" not in out.split("short test summary")[0]


def test_a_misspelt_wish_is_an_error_of_usage(tmp_path: Path) -> None:
    assert "unknown sampler 'hein'; did you mean 'heun'?" in run(tmp_path, "--dmf-part", "sampler:hein", expect=4)
    assert "leave out here" in run(tmp_path, "--dmf-part=sampler:heun", "here", expect=4)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("samplr", "unknown kind of part 'samplr'; did you mean 'sampler'?"),
        ("sampler:", "unknown sampler ''"),
        ("sampler:ddim,et=1", "unknown option 'et' of sampler 'ddim'; did you mean 'eta'?"),
        ("sampler:ddim,eta=2", "option 'eta' of sampler 'ddim': got 2"),
        ("sampler:ddim,eta", "has 'eta' where an option stands; expected KIND"),
        ("sampler:ddim,eta=[", "the value of 'eta=[' is broken YAML"),
        ("sampler,eta=1", "gives options to all of a kind"),
    ],
)
def test_wishes_that_cannot_be(text: str, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        read(text)
    assert sentence in str(error.value)


def test_values_are_yaml() -> None:
    (case, *_) = read("backbone:unet,multipliers=[1, 2],attention=[],dropout=0")
    assert case.setting.options == {"multipliers": [1, 2], "attention": [], "dropout": 0}
    assert read("grid:karras,rho=3.0")[0].setting.name == "grid:karras,rho=3.0"
    assert {c.setting.part_name for c in read("prediction")} >= {"epsilon", "x0", "v", "flow", "edm"}


def test_each_choice_of_a_sampler_is_a_setting() -> None:
    names = {setting.name for setting in full_settings(Setting("sampler", "ddpm"))}
    assert names == {"sampler:ddpm,variance=small", "sampler:ddpm,variance=large"}
    assert [s.options for s in full_settings(Setting("sampler", "ddim"))] == [{}]


def test_bounds_are_inside_the_range() -> None:
    assert list(bounds({"type": "integer", "minimum": 2, "exclusiveMaximum": 9})) == [2, 8]
    assert list(bounds({"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1})) == [1.0, 1e-3]
    assert list(bounds({"type": "string"})) == []


def test_check_part_is_the_same_without_pytest(install: Install) -> None:
    install("parts-x", ENTRIES, {"parts_x.py": PARTS})
    check_part("prediction", "v")
    with pytest.raises(AssertionError, match="has no summary"):
        check_part("prediction", "named")
