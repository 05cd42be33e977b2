"""The reference pages are what the code says today."""

import re
import runpy
from typing import Any

import pytest
from docs_kit import ROOT
from registry_kit import SAMPLER, Install
from registry_kit import install_fixture as install_fixture

from dmf.registry import KINDS
from dmf.runner.commands import COMMANDS


def generator(name: str) -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / f"generate_{name}.py"))


def stale(name: str) -> str:
    return f"docs/{name}.md is stale: python docs/generate_{name}.py"


def test_the_recipe_reference_is_fresh() -> None:
    made = generator("recipes")
    assert made["PAGE"].read_text(encoding="utf-8") == made["page"](), stale("recipes")


def test_other_peoples_plugins_do_not_get_in(install: Install) -> None:
    before = generator("recipes")["page"]()
    install("zork-sampler", {"dmf.samplers": "zork = zork_x:Zork\nheun = zork_x:Zork"}, {"zork_x.py": SAMPLER})
    assert generator("recipes")["page"]() == before


def test_every_kind_is_there() -> None:
    text = generator("recipes")["page"]()
    assert [kind for kind in KINDS if f"## Parts of kind {kind}\n" not in text] == []


def test_the_commands_are_fresh() -> None:
    """But for line breaks: each Python has its own way of folding help."""
    made = generator("commands")
    written, fresh = (re.sub(r"\s", "", text) for text in (made["PAGE"].read_text(encoding="utf-8"), made["page"]()))
    assert written == fresh, stale("commands")


@pytest.mark.parametrize("name", [*COMMANDS, "recipes copy"])
def test_every_command_is_there(name: str) -> None:
    assert f"\n## dmf {name}\n" in generator("commands")["page"]()
