"""`check` really imports each part in its own process, and whatever happens there stays there."""

import pytest
from registry_kit import SAMPLER, Install, install_fixture  # noqa: F401

from dmf.registry import check as check_module
from dmf.registry import parts
from dmf.registry.check import check

LOUD = f"print('hello from the plugin')\n{SAMPLER}"
SOURCES = {
    "good": (LOUD, None),
    "missing": ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'"),
    "quitting": ("import os; os._exit(3)", "its import ended the process with exit status 3"),
    "crashing": (
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "its import ended the process with signal SIGSEGV",
    ),
    "wrong": (
        "class Zork: ...",
        "sampler 'wrong' of zork 0.1 (zork_wrong:Zork) is the class Zork, expected a class "
        "derived from dmf.core:Sampler",
    ),
    "starred": (
        SAMPLER.replace("= 1) -> None", "= 1, **rest: int) -> None"),
        "sampler Zork: **rest hides its options; each must be spelt out, with its type",
    ),
}


def test_each_part_gets_its_own_verdict(install: Install) -> None:
    entries = "\n".join(f"{name} = zork_{name}:Zork" for name in SOURCES)
    install("zork", {"dmf.samplers": entries}, {f"zork_{name}.py": source for name, (source, _) in SOURCES.items()})
    ours = [p for p in parts("sampler") if p.distribution == "zork"]
    assert [p.name for p in ours] == sorted(SOURCES)
    assert {p.name: error for p, error in check(ours)} == {name: error for name, (_, error) in SOURCES.items()}


def test_an_import_that_never_ends_is_given_up(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_module, "TIMEOUT_S", 1.0)
    install("zork", {"dmf.samplers": "slow = zork_slow:Zork"}, {"zork_slow.py": "import time; time.sleep(60)"})
    ours = [p for p in parts("sampler") if p.name == "slow"]
    assert [error for _, error in check(ours)] == ["its import was not done after 1 s"]
