"""Summaries and health are read from the source; the modules here would fail the test if they were imported."""

import sys

import pytest
from registry_kit import Install, install_fixture  # noqa: F401

from dmf.registry import describe, find, parts

BOOM = "raise AssertionError('imported')\n"


def summary(install: Install, target: str, files: dict[str, str]) -> tuple[str, str | None]:
    install("acme", {"dmf.samplers": f"acme = {target}"}, files)
    before = set(sys.modules)
    found = describe(find("sampler", "acme"))
    assert not {m for m in set(sys.modules) - before if m.startswith("acme")}, "imported"
    return found.summary, found.problem


@pytest.mark.parametrize(("target", "files", "expected"), [
    ("acme_a:Acme", {"acme_a.py": f'{BOOM}class Acme:\n    """First.\n\n    Second."""'}, "First."),
    ("acme_a:acme", {"acme_a.py": f'{BOOM}def acme():\n    """A function."""'}, "A function."),
    ("acme_a:Acme", {"acme_a.py": f'"""The module."""\n{BOOM}class Acme: ...'}, "The module."),
    ("acme_a:Acme", {"acme_a.py": f'"""The module."""\n{BOOM}Acme = 3'}, "The module."),
    ("acme_a:Acme", {"acme_a.py": f'{BOOM}try:\n    import x\nexcept E:\n    class Acme:\n        """Deep."""'}, "Deep."),
    ("acme_a:Out.In", {"acme_a.py": f'{BOOM}class Out:\n    class In:\n        """Inner."""'}, "Inner."),
    ("acme_a.b:Acme", {"acme_a/__init__.py": BOOM, "acme_a/b.py": f'{BOOM}class Acme:\n    """In a package."""'},
     "In a package."),
    ("acme_a.b.c:Acme", {"acme_a/b/c.py": f'{BOOM}class Acme:\n    """In bare folders."""'}, "In bare folders."),
    ("acme_a:Acme", {"acme_a/__init__.py": f"{BOOM}from .b import Deep as Acme",
                     "acme_a/b.py": f'{BOOM}class Deep:\n    """Moved."""'}, "Moved."),
    ("acme_a:Acme", {"acme_a/__init__.py": f"{BOOM}from acme_a.b import Acme",
                     "acme_a/b.py": f'{BOOM}class Acme:\n    """Absolute."""'}, "Absolute."),
    ("acme_a.c:Acme", {"acme_a/__init__.py": BOOM, "acme_a/c/__init__.py": f"{BOOM}from ..b import Acme",
                       "acme_a/b.py": f'{BOOM}class Acme:\n    """One up."""'}, "One up."),
    ("acme_a:Acme", {"acme_a.py": f'"""Lazy."""\n{BOOM}def __getattr__(name): ...'}, "Lazy."),
    ("acme_a:Acme", {"acme_a.py": f'"""Star."""\n{BOOM}from elsewhere import *'}, "Star."),
    ("acme_a:Acme", {"acme_a.py": f'"""Foreign."""\n{BOOM}from elsewhere import Acme'}, "Foreign."),
])
def test_the_summary_comes_from_the_source(
        install: Install, target: str, files: dict[str, str], expected: str) -> None:
    assert summary(install, target, files) == (expected, None)


@pytest.mark.parametrize(("target", "files", "problem"), [
    ("acme_gone:Acme", {}, "there is no module acme_gone"),
    ("acme_a.gone:Acme", {"acme_a/__init__.py": BOOM}, "there is no module acme_a.gone"),
    ("acme_a.b.c:Acme", {"acme_a.py": BOOM}, "there is no module acme_a.b: acme_a is no package"),
    ("acme_a:Acme", {"acme_a.py": f"{BOOM}class Acne: ..."}, "module acme_a has no 'Acme'; did you mean 'Acne'?"),
    ("acme_a:Acme", {"acme_a.py": "class Acme(:\n"}, "module acme_a has a syntax error: invalid syntax (line 1)"),
    ("acme_a:Acme", {"acme_a/__init__.py": "from .b import Acme"}, "there is no module acme_a.b"),
    ("acme_a:Acme", {"acme_a/__init__.py": "from .b import Acme", "acme_a/b.py": ""}, "module acme_a.b has no 'Acme'"),
])
def test_a_part_that_is_not_there_is_shown_as_broken(
        install: Install, target: str, files: dict[str, str], problem: str) -> None:
    assert summary(install, target, files) == ("", problem)


def test_a_compiled_module_has_no_summary_and_no_problem(install: Install) -> None:
    assert summary(install, "_struct:Struct", {}) == ("", None)


def test_a_source_in_no_encoding_is_shown_as_broken(install: Install) -> None:
    folder = install("acme", {"dmf.samplers": "acme = acme_latin:Acme"})
    (folder / "acme_latin.py").write_bytes(b"# \xe9\nclass Acme: ...")
    problem = describe(find("sampler", "acme")).problem
    assert problem is not None and problem.startswith("module acme_latin cannot be read: ")


def test_a_conflict_is_a_problem(install: Install) -> None:
    install("acme-one", {"dmf.samplers": "acme = acme_c:Acme"}, {"acme_c.py": 'class Acme:\n    """One."""'})
    install("acme-two", {"dmf.samplers": "acme = acme_d:Acme"}, {"acme_d.py": 'class Acme:\n    """Two."""'})
    found = [describe(p) for p in parts("sampler") if p.name == "acme"]
    assert sorted((d.summary, d.problem) for d in found) == [
        ("One.", "its name is also claimed by acme-two 0.1 (acme_d:Acme)"),
        ("Two.", "its name is also claimed by acme-one 0.1 (acme_c:Acme)")]


def test_every_built_in_part_is_whole_and_described() -> None:
    found = {(p.kind, p.name): describe(p) for p in parts() if p.distribution == "dmf"}
    assert {key: d for key, d in found.items() if d.problem or not d.summary} == {}
