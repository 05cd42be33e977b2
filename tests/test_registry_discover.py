"""Parts are found without importing them, and every way in which a plugin can be broken has one clear message."""

import subprocess
import sys

import pytest
from registry_kit import SAMPLER, Install, install_fixture  # noqa: F401

from dmf.core import Sampler
from dmf.registry import KINDS, PartError, find, kind_of, load, parts
from dmf.registry.discover import unknown_limits

LIGHT = """
import sys
import dmf.registry, dmf.registry.discover, dmf.registry.summary, dmf.registry.shipped, dmf.registry.errors
import dmf.registry.yaml12
parts = dmf.registry.discover.parts()
assert len(parts) > 20, parts
assert all(dmf.registry.summary.describe(p).problem is None for p in parts if p.distribution == "dmf")
assert dmf.registry.shipped.shipped()
heavy = {"torch", "pydantic", "jsonschema", "mlflow", "numpy", "sklearn"}
heavy |= {p.target.split(":")[0] for p in parts}
print(sorted(heavy & set(sys.modules)))
"""


def test_listing_parts_and_recipes_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_built_in_parts_come_through_entry_points() -> None:
    part = find("sampler", "ddim")
    assert (part.target, part.distribution) == ("dmf.plugins.samplers.ddim:DDIM", "dmf")
    assert part in parts() and part in parts("sampler")
    assert {p.kind for p in parts()} == set(KINDS)


def test_every_built_in_part_loads() -> None:
    for part in parts():
        if part.distribution == "dmf":
            assert callable(load(part))


def test_a_third_party_part_is_found_and_loaded(install: Install) -> None:
    install("acme-sampler", {"dmf.samplers": "acme = acme_found:Acme"}, {"acme_found.py": SAMPLER})
    assert find("sampler", "acme").source == "acme-sampler 0.1 (acme_found:Acme)"
    assert "acme_found" not in sys.modules
    assert issubclass(load("sampler", "acme"), Sampler)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(PartError) as error:
        find("sampler", "Huen")
    assert str(error.value) == (
        "unknown sampler 'Huen'; did you mean 'heun'? known: ddim, ddpm, euler, heun "
        "(parts come from installed packages: `dmf plugins` lists them)")


def test_an_unknown_kind_gets_the_nearest() -> None:
    with pytest.raises(PartError, match="unknown kind of part 'samplers'; did you mean 'sampler'"):
        kind_of("samplers")


@pytest.mark.parametrize(("source", "reason"), [
    ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'"),
    ("1 / 0", "ZeroDivisionError: division by zero"),
    ("import sys; sys.exit('bye')", "SystemExit: bye"),
    ("def f(:", "SyntaxError: "),
    ("raise BaseException('odd')", "BaseException: odd"),
    ("class Other: ...", "AttributeError: module 'acme_bad' has no attribute 'Acme'"),
])
def test_a_part_that_cannot_be_imported_names_distribution_and_error(
        install: Install, source: str, reason: str) -> None:
    install("acme-sampler", {"dmf.samplers": "acme = acme_bad:Acme"}, {"acme_bad.py": source})
    with pytest.raises(PartError) as error:
        load("sampler", "acme")
    assert str(error.value).startswith(
        f"sampler 'acme' of acme-sampler 0.1 (acme_bad:Acme) cannot be imported: {reason}")
    assert load("sampler", "heun")  # everything else works


def test_ctrl_c_during_an_import_is_not_swallowed(install: Install) -> None:
    install("acme-sampler", {"dmf.samplers": "acme = acme_int:Acme"}, {"acme_int.py": "raise KeyboardInterrupt"})
    with pytest.raises(KeyboardInterrupt):
        load("sampler", "acme")


@pytest.mark.parametrize(("group", "source", "message"), [
    ("dmf.samplers", "class Acme: ...", "is the class Acme, expected a class derived from dmf.core:Sampler"),
    ("dmf.samplers", "def Acme(): ...", "is a function, expected a class derived from dmf.core:Sampler"),
    ("dmf.hooks", "def Acme(): ...", "is a function, expected a class"),
    ("dmf.grids", "Acme = 3", "is a int, expected a function"),
])
def test_a_part_of_the_wrong_sort_is_refused(
        install: Install, group: str, source: str, message: str) -> None:
    install("acme", {group: "acme = acme_sort:Acme"}, {"acme_sort.py": source})
    kind = next(k.name for k in KINDS.values() if k.group == group)
    with pytest.raises(PartError) as error:
        load(kind, "acme")
    assert message in str(error.value)


def test_two_distributions_with_one_name_are_an_error_that_names_both(install: Install) -> None:
    install("acme-one", {"dmf.samplers": "acme = one:Acme"})
    install("acme-two", {"dmf.samplers": "acme = two:Acme"}, version="2.0")
    install("acme-heun", {"dmf.samplers": "heun = three:Heun"})
    with pytest.raises(PartError, match=r"claimed by .*acme-two 2.0 \(two:Acme\).* and .*acme-one 0.1 \(one:Acme\)"):
        find("sampler", "acme")
    with pytest.raises(PartError, match="acme-heun"):
        load("sampler", "heun")
    listed = {(p.distribution, p.name): p.rivals for p in parts("sampler")}
    assert listed["acme-one", "acme"] == ("acme-two 2.0 (two:Acme)",)
    assert listed["acme-two", "acme"] == ("acme-one 0.1 (one:Acme)",)
    assert find("sampler", "ddim").rivals == ()


def test_one_distribution_seen_twice_counts_once(install: Install) -> None:
    install("acme", {"dmf.samplers": "acme = acme_new:Acme"}, version="1.0")
    install("ACME", {"dmf.samplers": "acme = acme_old:Acme\nmore = acme_old:More"}, version="0.9")  # first on sys.path
    assert find("sampler", "acme").target == "acme_old:Acme"
    assert [p.name for p in parts("sampler") if p.distribution.lower() == "acme"] == ["acme", "more"]


def test_a_plugin_installed_while_the_process_runs_is_seen(install: Install) -> None:
    folder = install("acme", {"dmf.samplers": "acme = acme_late:Acme"})
    assert find("sampler", "acme")
    (folder / "acme-0.1.dist-info").rename(folder / "gone")
    with pytest.raises(PartError, match="unknown sampler 'acme'"):
        find("sampler", "acme")


def test_mangled_metadata_hides_nothing_else(install: Install) -> None:
    folder = install("acme", {"dmf.samplers": "no equals sign here\n# a comment\nacme = acme_m : Acme [extra]"})
    assert find("sampler", "acme").target == "acme_m:Acme"
    assert find("sampler", "no equals sign here").target == ""
    with pytest.raises(PartError, match="cannot be imported: ValueError"):
        load("sampler", "no equals sign here")
    (folder / "acme-0.1.dist-info" / "METADATA").unlink()
    (folder / "new").mkdir()  # so that the folder has changed
    assert (find("sampler", "acme").distribution, find("sampler", "acme").version) == ("unknown", "unknown")


def test_dmf_plugins_limits_third_parties(
        install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("Acme_One", {"dmf.samplers": "one = one:Acme"})
    install("acme-two", {"dmf.samplers": "two = two:Acme"})

    def third() -> list[str]:
        return [p.name for p in parts("sampler") if p.distribution != "dmf"]

    assert third() == ["one", "two"]
    assert unknown_limits() == []
    monkeypatch.setenv("DMF_PLUGINS", "acme.one, nobody")
    assert third() == ["one"]
    assert unknown_limits() == ["nobody"]
    with pytest.raises(PartError, match="DMF_PLUGINS shuts others out"):
        find("sampler", "two")
    monkeypatch.setenv("DMF_PLUGINS", "")
    assert third() == []
    assert find("sampler", "heun") and unknown_limits() == []


def test_dmf_plugins_settles_a_conflict(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("acme-one", {"dmf.samplers": "acme = one:Acme"})
    install("acme-two", {"dmf.samplers": "acme = two:Acme"})
    monkeypatch.setenv("DMF_PLUGINS", "acme-two")
    assert find("sampler", "acme").distribution == "acme-two"
