"""Summaries and health are read from the source; the modules here would fail the test if they were imported."""

import sys

import pytest
from registry_kit import Install, install_fixture  # noqa: F401

from dmf.registry import describe, find, parts

BOOM = "raise AssertionError('imported')\n"


def summary(install: Install, target: str, files: dict[str, str]) -> tuple[str, str | None]:
    install("zork", {"dmf.samplers": f"zork = {target}"}, files)
    before = set(sys.modules)
    found = describe(find("sampler", "zork"))
    assert not {m for m in set(sys.modules) - before if m.startswith("zork")}, "imported"
    return found.summary, found.problem


@pytest.mark.parametrize(
    ("target", "files", "expected"),
    [
        ("zork_a:Zork", {"zork_a.py": f'{BOOM}class Zork:\n    """First.\n\n    Second."""'}, "First."),
        ("zork_a:zork", {"zork_a.py": f'{BOOM}def zork():\n    """A function."""'}, "A function."),
        ("zork_a:Zork", {"zork_a.py": f'"""The module."""\n{BOOM}class Zork: ...'}, "The module."),
        ("zork_a:Zork", {"zork_a.py": f'"""The module."""\n{BOOM}Zork = 3'}, "The module."),
        ("zork_a:Zork", {"zork_a.py": f'{BOOM}try:\n  import x\nexcept E:\n  class Zork:\n    """Deep."""'}, "Deep."),
        ("zork_a:Out.In", {"zork_a.py": f'{BOOM}class Out:\n    class In:\n        """Inner."""'}, "Inner."),
        (
            "zork_a.b:Zork",
            {"zork_a/__init__.py": BOOM, "zork_a/b.py": f'{BOOM}class Zork:\n    """In a package."""'},
            "In a package.",
        ),
        ("zork_a.b.c:Zork", {"zork_a/b/c.py": f'{BOOM}class Zork:\n    """In bare folders."""'}, "In bare folders."),
        (
            "zork_a:Zork",
            {
                "zork_a/__init__.py": f"{BOOM}from .b import Deep as Zork",
                "zork_a/b.py": f'{BOOM}class Deep:\n    """Moved."""',
            },
            "Moved.",
        ),
        (
            "zork_a:Zork",
            {
                "zork_a/__init__.py": f"{BOOM}from zork_a.b import Zork",
                "zork_a/b.py": f'{BOOM}class Zork:\n    """Absolute."""',
            },
            "Absolute.",
        ),
        (
            "zork_a.c:Zork",
            {
                "zork_a/__init__.py": BOOM,
                "zork_a/c/__init__.py": f"{BOOM}from ..b import Zork",
                "zork_a/b.py": f'{BOOM}class Zork:\n    """One up."""',
            },
            "One up.",
        ),
        ("zork_a:Zork", {"zork_a.py": f'"""Lazy."""\n{BOOM}def __getattr__(name): ...'}, "Lazy."),
        ("zork_a:Zork", {"zork_a.py": f'"""Star."""\n{BOOM}from elsewhere import *'}, "Star."),
        ("zork_a:Zork", {"zork_a.py": f'"""Foreign."""\n{BOOM}from elsewhere import Zork'}, "Foreign."),
    ],
)
def test_the_summary_comes_from_the_source(install: Install, target: str, files: dict[str, str], expected: str) -> None:
    assert summary(install, target, files) == (expected, None)


@pytest.mark.parametrize(
    ("target", "files", "problem"),
    [
        ("zork_gone:Zork", {}, "there is no module zork_gone"),
        ("", {}, "its entry point names no module"),
        ("zork_a.gone:Zork", {"zork_a/__init__.py": BOOM}, "there is no module zork_a.gone"),
        ("zork_a.b.c:Zork", {"zork_a.py": BOOM}, "there is no module zork_a.b: zork_a is no package"),
        ("zork_a:Zork", {"zork_a.py": f"{BOOM}class Zorc: ..."}, "module zork_a has no 'Zork'; did you mean 'Zorc'?"),
        ("zork_a:Zork", {"zork_a.py": "class Zork(:\n"}, "module zork_a has a syntax error: invalid syntax (line 1)"),
        ("zork_a:Zork", {"zork_a/__init__.py": "from .b import Zork"}, "there is no module zork_a.b"),
        (
            "zork_a:Zork",
            {"zork_a/__init__.py": "from .b import Zork", "zork_a/b.py": ""},
            "module zork_a.b has no 'Zork'",
        ),
    ],
)
def test_a_part_that_is_not_there_is_shown_as_broken(
    install: Install, target: str, files: dict[str, str], problem: str
) -> None:
    assert summary(install, target, files) == ("", problem)


def test_a_compiled_module_has_no_summary_and_no_problem(install: Install) -> None:
    assert summary(install, "_struct:Struct", {}) == ("", None)


def test_a_source_in_no_encoding_is_shown_as_broken(install: Install) -> None:
    folder = install("zork", {"dmf.samplers": "zork = zork_latin:Zork"})
    (folder / "zork_latin.py").write_bytes(b"# \xe9\nclass Zork: ...")
    problem = describe(find("sampler", "zork")).problem
    assert problem is not None and problem.startswith("module zork_latin cannot be read: ")


def test_a_conflict_is_a_problem(install: Install) -> None:
    install("zork-one", {"dmf.samplers": "zork = zork_c:Zork"}, {"zork_c.py": 'class Zork:\n    """One."""'})
    install("zork-two", {"dmf.samplers": "zork = zork_d:Zork"}, {"zork_d.py": 'class Zork:\n    """Two."""'})
    found = [describe(p) for p in parts("sampler") if p.name == "zork"]
    assert sorted((d.summary, d.problem) for d in found) == [
        ("One.", "its name is also claimed by zork-two 0.1 (zork_d:Zork)"),
        ("Two.", "its name is also claimed by zork-one 0.1 (zork_c:Zork)"),
    ]


def test_every_built_in_part_is_whole_and_described() -> None:
    found = {(p.kind, p.name): describe(p) for p in parts() if p.distribution == "dmf"}
    assert {key: d for key, d in found.items() if d.problem or not d.summary} == {}
