"""The pytest plugin: ``pytest --dmf-part sampler:heun`` holds a registered part, anybody's, to its contract.

Every pytest run of whoever has dmf installed loads this module, so it imports nothing until the option is used. The
items hang on the session, not on a file: no folder is looked through, and none is taken for a package of tests.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .contracts import Case

OPTION = "--dmf-part"
HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare ``--dmf-part``."""
    parser.getgroup("dmf", "dmf: contracts of parts").addoption(
        OPTION,
        action="append",
        default=[],
        dest="dmf_part",
        metavar="KIND[:NAME[,OPTION=VALUE...]]",
        help="check a part that is registered with dmf, or all of a kind, and collect nothing else; may be given"
        " several times. Values are YAML: sampler:heun, sampler:ddim,eta=0.5, schedule",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Read the option; with it no path is collected."""
    wanted = config.getoption("dmf_part")
    if not wanted:
        return
    from ..registry import UserError
    from .wanted import read

    if config.args_source is pytest.Config.ArgsSource.ARGS and config.args and not hasattr(config, "workerinput"):
        raise pytest.UsageError(
            f"{OPTION} collects the checks of parts and nothing else; leave out {' '.join(config.args)}"
        )
    try:
        config.stash[CASES] = [case for one in wanted for case in read(one)]
    except UserError as error:
        raise pytest.UsageError(f"{OPTION}: {error}") from error
    config.args = []


def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the checks in place of whatever was collected."""
    if not config.getoption("dmf_part"):
        return
    groups: dict[str, _Part] = {}
    items[:] = [_item(session, groups, case) for case in config.stash[CASES]]
    for part in groups.values():  # so that they are counted as collected
        report = pytest.CollectReport(part.nodeid, "passed", None, part.collect())
        config.hook.pytest_collectreport(report=report)


CASES = pytest.StashKey["list[Case]"]()


def _item(session: pytest.Session, groups: dict[str, _Part], case: Case) -> pytest.Item:
    name = case.setting.name
    if name not in groups:
        groups[name] = _Part.from_parent(session, name=name, nodeid=name)
    check: pytest.Item = _Check.from_parent(groups[name], name=case.name, case=case)
    groups[name].checks.append(check)
    return check


class _Part(pytest.Collector):
    """A part, with its options."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.checks: list[pytest.Item | pytest.Collector] = []

    def collect(self) -> list[pytest.Item | pytest.Collector]:
        """Its checks."""
        return self.checks


class _Check(pytest.Item):
    """One check of one part."""

    def __init__(self, *, case: Case, **others: Any) -> None:
        super().__init__(**others)
        self.case = case

    def runtest(self) -> None:
        """Run it."""
        self.case.run()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        """The check's sentence; of an error that the part raised, also where in the part."""
        from ..registry import UserError
        from .claims import Broken

        error = excinfo.value
        if isinstance(error, (Broken, UserError)):
            return str(error)
        outside = [f for f in traceback.extract_tb(error.__traceback__) if not _ours(Path(f.filename))]
        where = "".join(traceback.format_list(outside))
        return f"{where}{self.case.setting.name} raised {type(error).__name__} in {self.name}: {error}"

    def reportinfo(self) -> tuple[Path, None, str]:
        """The heading of a failure."""
        return self.path, None, f"{self.case.setting.name} {self.name}"


def _ours(file: Path) -> bool:
    """Whether a line of a traceback is the kit's or pytest's, where the reader has nothing to look for."""
    return HERE in file.parents or bool({"_pytest", "pluggy"} & set(file.parts))
