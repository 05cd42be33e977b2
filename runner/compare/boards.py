"""Values of several runs beside each other; those of another protocol than the first one's are marked, with the reason.

The first board has each run as `dmf run` measured it, whatever was measured since. The second has what `dmf evaluate`
and its sweeps measured, by settings, with every run that was measured so, and marks within each setting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ...files.words import few
from ..evaluation.results import Results, differing, held_out_told, is_spread, protocol_differences, with_spread
from .runs import Report, Run
from .settings import Setting, Settings, own_of, short_digits, whole

OWN = "as trained"
STEPS = "trained_steps"  # of a protocol


class Notes:
    """Footnotes: what keeps values from being compared."""

    def __init__(self) -> None:
        self._by: dict[tuple[str, str], list[str]] = {}

    def mark(self, run: str, first: str, theirs: Mapping[str, str], own: Mapping[str, str]) -> int:
        """The number of the footnote of a value; 0 for one that can be compared.

        Args:
            run: Whose value.
            first: The run whose value it stands beside.
            theirs: Protocol of that one.
            own: Protocol of the value.
        """
        found = protocol_differences(theirs, own)
        if not found:
            return 0
        key = (first, short_digits("; ".join(found)))
        runs = self._by.setdefault(key, [])
        runs += [] if run in runs else [run]
        return list(self._by).index(key) + 1

    def texts(self, named: bool = False) -> list[str]:
        """In the order of their numbers; with the runs that they are of, if ``named``."""
        return [
            f"{', '.join(runs) + ': not' if named else 'not'} to be compared with {first}: {text}"
            for (first, text), runs in self._by.items()
        ]


class Cell(NamedTuple):
    """A value.

    Attributes:
        text: With its spread; empty where there is none.
        note: Number of its footnote; 0 for none.
        held_out: The same of real images, for scale; empty where there is none.
    """

    text: str = ""
    note: int = 0
    held_out: str = ""


class Row(NamedTuple):
    """A run's values.

    Attributes:
        setting: In which they were measured; empty for each run's own.
        run: Its number.
        trained: Steps behind the network that was measured.
        images: How many were made.
        cells: One for each of the board's names.
    """

    setting: str
    run: int
    trained: str
    images: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Board:
    """Values beside each other.

    Attributes:
        title: Which settings.
        names: Of the values.
        rows: One for each run that has some, of each setting.
        notes: Footnotes, from number 1.
        cautions: What else a reader should know.
    """

    title: str
    names: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str]
    cautions: Sequence[str]


class Value(NamedTuple):
    """A value on its way to a board."""

    result: Mapping[str, Any]
    text: str
    age: tuple[int, float]

    @property
    def protocol(self) -> Mapping[str, str]:
        """What must be equal for two to be compared."""
        found: Mapping[str, str] = self.result["protocol"]
        return found

    def says(self, other: Value) -> bool:
        """Whether a reader of this one learns nothing from the other."""
        beside = (one.text + held_out_told(one.result) for one in (self, other))
        return len(set(beside)) == 1 and self.age[0] == other.age[0] and not differing(self.protocol, other.protocol)


Values = dict[tuple[int, str], Value]  # by the run's number and the value's name


def boards_of(runs: Sequence[Run], names: set[str]) -> list[Board]:
    """All that was measured of trained networks.

    Args:
        runs: Which.
        names: Of the values to show.
    """
    settings = Settings(runs)
    own, others = _sorted(runs, names, settings)
    found = [_board(OWN, runs, {"": own})] if own else []
    if others:
        title = "in other settings" if own else "in these settings"
        found.append(_board(title, runs, {settings.called(setting): values for setting, values in others.items()}))
    return found


def titles(runs: Sequence[Run]) -> dict[Path, str]:
    """What the setting of each report is called."""
    settings, found = Settings(runs), {}
    for run in runs:
        own = own_of(run)
        for report in filter(lambda one: one.results, run.reports):
            setting = settings.of_report(report)
            is_own = own is not None and setting == settings.of_report(own)
            at = _trained(report)
            later = "" if own is None or at == _trained(own) else f", step {at}"
            found[report.file] = (OWN if is_own and not later else settings.called(setting)) + later
    return found


def _trained(report: Report) -> str:
    return whole(one["protocol"] for one in report.results.values()).get(STEPS, "-")


def _sorted(runs: Sequence[Run], names: set[str], settings: Settings) -> tuple[Values, dict[Setting, Values]]:
    """The values as `dmf run` measured them, and those in each setting in which a command measured something else."""
    own: Values = {}
    by_setting: dict[Setting, Values] = {}
    for k, run in enumerate(runs):
        for report in filter(lambda one: one.results, run.reports):  # the run's own is the first
            for name, value in _values(report, names).items():
                if report.own:
                    own[k, name] = value
                elif (k, name) in own and own[k, name].says(value):
                    continue
                there = by_setting.setdefault(settings.of(report, name), {})
                there[k, name] = max(value, there.get((k, name), value), key=lambda one: one.age)
    told = set(map(id, own.values()))
    return own, {key: found for key, found in by_setting.items() if not set(map(id, found.values())) <= told}


def _values(report: Report, names: set[str]) -> dict[str, Value]:
    """Those to show; a spread stands behind its value."""
    results, written = report.results, report.file.stat().st_mtime
    shown = [n for n in results if n in names and not is_spread(n, results)]
    return {name: Value(results[name], with_spread(name, results), (_steps(results, name), written)) for name in shown}


def _steps(results: Results, name: str) -> int:
    """Behind the network that was measured; 0 where that is not known."""
    trained = results[name]["protocol"].get(STEPS, "")
    return int(trained) if trained.isdecimal() else 0


def _board(title: str, runs: Sequence[Run], by_setting: Mapping[str, Values]) -> Board:
    names = list(dict.fromkeys(name for values in by_setting.values() for _, name in values))
    notes = Notes()
    rows = [row for setting, values in by_setting.items() for row in _rows(setting, values, names, runs, notes)]
    return Board(title, names, rows, notes.texts(), list(_cautions(by_setting, runs)))


def _cautions(by_setting: Mapping[str, Values], runs: Sequence[Run]) -> Iterator[str]:
    """Each sentence once for a run, with the values that it is of and their settings."""
    found: dict[tuple[int, str], tuple[dict[str, None], dict[str, None]]] = {}
    for setting, values in by_setting.items():
        for (k, name), value in values.items():
            for caution in value.result.get("cautions", ()):
                names, settings = found.setdefault((k, caution), ({}, {}))
                names[name] = settings[setting] = None
    for (k, caution), (names, settings) in found.items():
        where = f" ({few(list(settings), ' / ')})" if any(settings) else ""
        yield f"{runs[k].name}, {few(list(names))}{where}: {caution}"


def _rows(setting: str, values: Values, names: Sequence[str], runs: Sequence[Run], notes: Notes) -> Iterator[Row]:
    """Those of one setting, one for each network of a run; a value is held against that of the first run with one."""
    first = {name: k for k, name in sorted(values, reverse=True)}
    for k in range(len(runs)):
        there = [name for name in names if (k, name) in values]
        there.sort(key=lambda name: values[k, name].age[0], reverse=True)
        for trained in dict.fromkeys(values[k, name].protocol.get(STEPS, "-") for name in there):
            some = {name: values[k, name] for name in there if values[k, name].protocol.get(STEPS, "-") == trained}
            cells = [
                _cell(some[name], k, values[first[name], name], first[name], runs, notes) if name in some else Cell()
                for name in names
            ]
            yield Row(setting, k, trained, whole(one.protocol for one in some.values())["images"], cells)


def _cell(value: Value, k: int, beside: Value, first: int, runs: Sequence[Run], notes: Notes) -> Cell:
    note = notes.mark(runs[k].name, runs[first].name, beside.protocol, value.protocol)
    return Cell(value.text, note, held_out_told(value.result))
