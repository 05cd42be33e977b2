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
import dmf.registry.yaml12, dmf.registry.hooks, dmf.registry.check
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
    install("zork-sampler", {"dmf.samplers": "zork = zork_found:Zork"}, {"zork_found.py": SAMPLER})
    assert find("sampler", "zork").source == "zork-sampler 0.1 (zork_found:Zork)"
    assert "zork_found" not in sys.modules
    assert issubclass(load("sampler", "zork"), Sampler)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(PartError) as error:
        find("sampler", "Huen")
    assert str(error.value) == (
        f"unknown sampler 'Huen'; did you mean 'heun'? known: {', '.join(p.name for p in parts('sampler'))} "
        "(parts come from installed packages: `dmf plugins` lists them)"
    )


def test_an_unknown_kind_gets_the_nearest() -> None:
    with pytest.raises(PartError, match="unknown kind of part 'samplers'; did you mean 'sampler'"):
        kind_of("samplers")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit('bye')", "SystemExit: bye"),
        ("def f(:", "SyntaxError: "),
        ("raise BaseException('odd')", "BaseException: odd"),
        ("class Other: ...", "AttributeError: module 'zork_bad' has no attribute 'Zork'"),
    ],
)
def test_a_part_that_cannot_be_imported_names_distribution_and_error(
    install: Install, source: str, reason: str
) -> None:
    install("zork-sampler", {"dmf.samplers": "zork = zork_bad:Zork"}, {"zork_bad.py": source})
    with pytest.raises(PartError) as error:
        load("sampler", "zork")
    assert str(error.value).startswith(
        f"sampler 'zork' of zork-sampler 0.1 (zork_bad:Zork) cannot be imported: {reason}"
    )
    assert load("sampler", "heun")  # everything else works


def test_ctrl_c_during_an_import_is_not_swallowed(install: Install) -> None:
    install("zork-sampler", {"dmf.samplers": "zork = zork_int:Zork"}, {"zork_int.py": "raise KeyboardInterrupt"})
    with pytest.raises(KeyboardInterrupt):
        load("sampler", "zork")


@pytest.mark.parametrize(
    ("group", "source", "message"),
    [
        ("dmf.samplers", "class Zork: ...", "is the class Zork, expected a class derived from dmf.core:Sampler"),
        ("dmf.samplers", "def Zork(): ...", "is a function, expected a class derived from dmf.core:Sampler"),
        ("dmf.hooks", "def Zork(): ...", "is a function, expected a class"),
        ("dmf.grids", "Zork = 3", "is a int, expected a function"),
    ],
)
def test_a_part_of_the_wrong_sort_is_refused(install: Install, group: str, source: str, message: str) -> None:
    install("zork", {group: "zork = zork_sort:Zork"}, {"zork_sort.py": source})
    kind = next(k.name for k in KINDS.values() if k.group == group)
    with pytest.raises(PartError) as error:
        load(kind, "zork")
    assert message in str(error.value)


def test_two_distributions_with_one_name_are_an_error_that_names_both(install: Install) -> None:
    install("zork-one", {"dmf.samplers": "zork = one:Zork"})
    install("zork-two", {"dmf.samplers": "zork = two:Zork"}, version="2.0")
    install("zork-heun", {"dmf.samplers": "heun = three:Heun"})
    with pytest.raises(PartError, match=r"claimed by .*zork-two 2.0 \(two:Zork\).* and .*zork-one 0.1 \(one:Zork\)"):
        find("sampler", "zork")
    with pytest.raises(PartError, match="zork-heun"):
        load("sampler", "heun")
    listed = {(p.distribution, p.name): p.rivals for p in parts("sampler")}
    assert listed["zork-one", "zork"] == ("zork-two 2.0 (two:Zork)",)
    assert listed["zork-two", "zork"] == ("zork-one 0.1 (one:Zork)",)
    assert find("sampler", "ddim").rivals == ()


def test_one_distribution_seen_twice_counts_once(install: Install) -> None:
    install("zork", {"dmf.samplers": "zork = zork_new:Zork"}, version="1.0")
    install("ZORK", {"dmf.samplers": "zork = zork_old:Zork\nmore = zork_old:More"}, version="0.9")  # first on sys.path
    assert find("sampler", "zork").target == "zork_old:Zork"
    assert [p.name for p in parts("sampler") if p.distribution.lower() == "zork"] == ["more", "zork"]


def test_a_plugin_installed_while_the_process_runs_is_seen(install: Install) -> None:
    folder = install("zork", {"dmf.samplers": "zork = zork_late:Zork"})
    assert find("sampler", "zork")
    (folder / "zork-0.1.dist-info").rename(folder / "gone")
    with pytest.raises(PartError, match="unknown sampler 'zork'"):
        find("sampler", "zork")


def test_mangled_metadata_hides_nothing_else(install: Install) -> None:
    folder = install("zork", {"dmf.samplers": "no equals sign here\n# a comment\nzork = zork_m : Zork [extra]"})
    assert find("sampler", "zork").target == "zork_m:Zork"
    assert find("sampler", "no equals sign here").target == ""
    with pytest.raises(PartError, match="cannot be imported: ValueError"):
        load("sampler", "no equals sign here")
    (folder / "zork-0.1.dist-info" / "METADATA").unlink()
    (folder / "new").mkdir()  # so that the folder has changed
    assert (find("sampler", "zork").distribution, find("sampler", "zork").version) == ("unknown", "unknown")


def test_dmf_plugins_limits_third_parties(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("Zork_One", {"dmf.samplers": "one = one:Zork"})
    install("zork-two", {"dmf.samplers": "two = two:Zork"})

    def third() -> list[str]:
        return [p.name for p in parts("sampler") if p.target.endswith(":Zork")]

    assert third() == ["one", "two"]
    assert unknown_limits() == []
    monkeypatch.setenv("DMF_PLUGINS", "zork.one, nobody")
    assert third() == ["one"]
    assert unknown_limits() == ["nobody"]
    with pytest.raises(PartError, match="DMF_PLUGINS shuts others out"):
        find("sampler", "two")
    monkeypatch.setenv("DMF_PLUGINS", "")
    assert third() == []
    assert find("sampler", "heun") and unknown_limits() == []


def test_dmf_plugins_settles_a_conflict(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("zork-one", {"dmf.samplers": "zork = one:Zork"})
    install("zork-two", {"dmf.samplers": "zork = two:Zork"})
    monkeypatch.setenv("DMF_PLUGINS", "zork-two")
    assert find("sampler", "zork").distribution == "zork-two"
