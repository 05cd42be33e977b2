"""The pages say what is true: their code runs, their recipes are valid, their links and commands are there."""

import csv
import functools
import re
import shutil
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import docs_kit
import numpy as np
import pytest
import torch
from docs_kit import PAGES, ROOT, blocks
from registry_kit import Install
from registry_kit import install_fixture as install_fixture

from dmf.core import labels_cond, levels_of
from dmf.registry import KINDS, find, kind_of, parts, read
from dmf.registry.shipped import shipped
from dmf.runner.cli import main, parse
from dmf.runner.commands import COMMANDS
from dmf.runner.same_run import FREE

Command = Callable[..., tuple[int, str, str]]
DOCS = ROOT / "docs"
RUN_TWICE = DOCS / "library.md"  # its own test runs it, and looks at the result
ids = functools.partial(pytest.mark.parametrize, ids=lambda value: value.name if isinstance(value, Path) else None)


@pytest.fixture
def acme(install: Install) -> Path:
    """The third-party sampler, as pip would have installed it."""
    source = (ROOT / "tests/thirdparty_plugin/acme_sampler/__init__.py").read_text(encoding="utf-8")
    entries = {"dmf.samplers": "acme_dpmpp_2m = acme_sampler:DPMpp2M"}
    return install("acme-sampler", entries, {"acme_sampler/__init__.py": source})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the README's first command leaves behind, with everything cut short."""
    runs = tmp_path_factory.mktemp("docs") / "runs"
    short = ["train.steps=1", "train.batch_size=8", "hooks=[]", "preview.every=1", "sampler.steps=1"]
    small = ["backbone.hidden=16", "backbone.depth=1", "evaluate.images=66", "evaluate.metrics.1.subsets=1"]
    assert main(["run", "digits_dit", *short, *small, "--runs", str(runs)]) == 0
    return runs


@pytest.fixture
def digits_run(trained: Path, workdir: Path) -> Path:
    """A copy of that in the working folder."""
    return Path(shutil.copytree(trained, workdir / "runs")) / "digits-dit"


# code


@ids("page", [p for p in PAGES if blocks(p, "python") and p != RUN_TWICE])
def test_python_runs(page: Path, acme: Path, digits_run: Path) -> None:
    names: dict[str, object] = {}
    for block in blocks(page, "python"):
        docs_kit.run(block, names)


@ids("page", PAGES)
def test_quoted_files_are_the_files(page: Path) -> None:
    for block in docs_kit.every_block(page):
        if block.file:
            assert block.text == (ROOT / block.file).read_text(encoding="utf-8"), f"{page}:{block.line}"


def test_the_plugin_is_quoted_whole() -> None:
    quoted = {block.file for block in docs_kit.every_block(DOCS / "plugins.md")}
    assert {f"tests/thirdparty_plugin/{f}" for f in ("setup.cfg", "acme_sampler/__init__.py")} <= quoted


def entries(page: Path) -> Mapping[str, str]:
    """The entry points that a page writes down, by group."""
    text = "".join(block.text for block in blocks(page, "ini"))
    found = re.findall(r"^(dmf\.\w+) =\n((?:    .*\n)+)", text, re.MULTILINE)
    return {group: textwrap.dedent(lines) for group, lines in found}


def test_the_small_parts_work_together(install: Install, workdir: Path, dmf_command: Command) -> None:
    page = DOCS / "interfaces.md"
    module = "".join(b.text for b in blocks(page, "python") if "dmf.testing" not in b.text)
    install("my-parts", entries(page), {"my_parts.py": module})
    random = np.random.default_rng(0)
    pixels = random.integers(0, 100, (200, 8, 8, 1), dtype=np.uint8)
    np.savez("samples.npz", arr_0=pixels, arr_1=random.integers(0, 3, 200))
    (recipe,) = blocks(page, "yaml")
    Path("mine.yaml").write_text(recipe.text, encoding="utf-8")
    code, out, err = dmf_command("run", "mine.yaml", "hooks=[]", "evaluate.held_out=false")
    assert code == 0, err
    assert (
        "brightness" in out and "mean_distance_digits" in out and (workdir / "runs/all-mine/samples/grid.png").exists()
    )
    from my_parts import Brightness, Exploding, halves  # type: ignore[import-not-found]

    assert len(levels_of(Exploding(), halves(Exploding(), 8))) == 9
    metric = Brightness()
    metric.update(torch.from_numpy(pixels).permute(0, 3, 1, 2), real=True)
    metric.update(torch.full((3, 1, 8, 8), 255, dtype=torch.uint8))
    assert metric.compute()["brightness"] == pytest.approx(255 - pixels.mean())


def test_the_hook_writes_the_losses(install: Install, tiny: Path, dmf_command: Command) -> None:
    page = DOCS / "plugins.md"
    (source,) = [b for b in blocks(page, "python") if "hookimpl" in b.text]
    install("acme-hooks", entries(page), {"acme_hooks.py": source.text})
    assert dmf_command("train", tiny, "hooks=[{name: acme_loss_file, file: loss.csv}]")[0] == 0
    with open(tiny.parent / "runs/tiny/loss.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert [int(step) for step, _ in rows] == [2, 4, 6, 8, 10, 12] and all(float(loss) > 0 for _, loss in rows)


@ids("page", [p for p in PAGES if blocks(p, "yaml") and p.name != "interfaces.md"])
def test_recipes_are_valid(page: Path, acme: Path, install: Install, workdir: Path) -> None:
    hook = "class LossFile:\n    def __init__(self, *, file: str = 'l.csv') -> None: ...\n"
    install("acme-hooks", {"dmf.hooks": "acme_loss_file = acme_hooks:LossFile"}, {"acme_hooks.py": hook})
    for number, block in enumerate(blocks(page, "yaml")):
        whole = "" if "extends:" in block.text else "extends: digits_dit\n"  # a piece of a recipe
        file = workdir / f"{number}.yaml"
        file.write_text(whole + block.text, encoding="utf-8")
        read(file)


# links, commands, names


@ids("page", PAGES)
def test_links_lead_somewhere(page: Path) -> None:
    for link in docs_kit.LINK.findall(docs_kit.prose(page)):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.exists() and file.is_relative_to(ROOT), f"{page.name} links to {link}"
        assert not anchor or anchor in docs_kit.anchors(file), f"{page.name}: no heading for {link}"


@ids("page", PAGES)
def test_commands_are_there(page: Path, acme: Path, workdir: Path) -> None:
    for words in docs_kit.commands(page):
        if len(words) == 1:  # a command by its name
            assert words[0] in (*COMMANDS, "--help", "--version"), f"{page.name}: dmf {words[0]}"
            continue
        if len(words) == 2 and words[1] in getattr(COMMANDS[words[0]], "VERBS", {}):  # likewise
            continue
        try:
            args = parse(words)
        except SystemExit:
            pytest.fail(f"{page.name}: dmf {' '.join(words)}")
        if args.command in ("run", "train", "validate"):
            read(recipe_of(args.recipe), args.overrides)
        if args.command == "recipes" and args.what in ("show", "copy"):
            assert args.name in shipped()
        if getattr(args, "sampler", None):
            find("sampler", args.sampler)
        if args.command == "plugins":
            named = [word for word in args.words if word != "show" and "=" not in word]
            assert all(kind_of(word.partition(":")[0]) for word in named)


def recipe_of(given: str) -> Path | str:
    """The recipe that a page names; a reader's own is taken for a copy of the digits'."""
    if given.startswith("recipes/"):
        return ROOT / given
    return given if given in shipped() else "digits_dit"


def test_the_readme_has_the_two_commands() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    for command in ("pip install . && dmf run recipes/digits_dit.yaml", "pip install '.[test]' && pytest"):
        assert lines.count(command) == 1, command


def test_the_readme_lists_all_that_is_built_in() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| \[?(\w+)(?:\]\(.*\))? \| (.*) \|$", text, re.MULTILINE))
    for kind in KINDS:
        names = [part.name for part in parts(kind) if part.distribution == "dmf"]
        assert rows[kind] == ", ".join(f"`{name}`" for name in names), kind


def test_the_keys_that_are_free_are_those_of_the_code() -> None:
    text = (DOCS / "resume.md").read_text(encoding="utf-8")
    listed = text.partition("<!-- the test reads this list -->")[2].strip().partition("\n\n")[0]
    assert set(re.findall(r"`([^`]+)`", listed)) == set(FREE)


def test_the_index_names_every_file_of_a_run(digits_run: Path) -> None:
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    there = {path.name + ("/" if path.is_dir() else "") for path in digits_run.iterdir() if path.name[0] != "."}
    assert {"recipe.yaml", "metrics.json", "samples/", "checkpoints/"} <= there
    assert {name for name in there if f"`{name}`" not in text} == set()


def test_the_checkpoint_page_names_every_file_of_a_checkpoint(digits_run: Path) -> None:
    text = (DOCS / "checkpoints.md").read_text(encoding="utf-8")
    (checkpoint,) = (digits_run / "checkpoints").iterdir()
    assert {path.name for path in checkpoint.iterdir() if f"`{path.name}`" not in text} == set()


def test_the_weights_of_the_page_are_those_of_the_run(digits_run: Path) -> None:
    names: dict[str, object] = {}
    for block in blocks(DOCS / "checkpoints.md", "python"):
        docs_kit.run(block, names)
    network, codec = names["network"], names["codec"]
    cond = labels_cond([3], codec.spec)  # type: ignore[attr-defined]
    with torch.inference_mode():
        assert network(torch.zeros(1, 1, 8, 8), torch.zeros(1), cond).shape == (1, 1, 8, 8)  # type: ignore[operator]
