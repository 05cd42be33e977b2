"""Values of several runs beside each other; those of another protocol than the first one's are marked, with the reason.

Evaluations are laid together by their setting: images, sampler, steps, guidance and what else a command may change. A
run's own setting is that in which `dmf run` measured it: the first board has each run in its own, the second what
`dmf evaluate` and its sweeps measured in others, with every run that was measured so, and marks within each setting.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ...files.words import few
from ..evaluation.results import Results, held_out_told, is_same, is_spread, protocol_differences, with_spread
from .runs import Report, Run

SETTING = ("images", "sampler", "steps", "grid", "guidance", "weights", "seed")  # of a protocol
OWN = "as trained"
HASH = re.compile(r"\b[0-9a-f]{32,}\b")  # of which few digits are enough
Setting = tuple[tuple[str, str], ...]


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
        key = (first, HASH.sub(lambda digits: f"{digits[0][:12]}…", "; ".join(found)))
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


Values = dict[tuple[int, str], Value]  # by the run's number and the value's name


def boards_of(runs: Sequence[Run], names: set[str]) -> list[Board]:
    """All that was measured of trained networks.

    Args:
        runs: Which.
        names: Of the values to show.
    """
    own, others = _sorted(runs, names)
    shown = set(map(id, own.values()))
    news = {key: values for key, values in others.items() if not {id(value) for value in values.values()} <= shown}
    found = [_board(OWN, runs, {"": own})] if own else []
    if news:
        title = "in other settings" if own else "in these settings"
        found.append(_board(title, runs, {_title(setting, runs): values for setting, values in news.items()}))
    return found


def titles(runs: Sequence[Run]) -> dict[Path, str]:
    """What the setting of each report is called."""
    found = {}
    for run in runs:
        own = _own(run)
        for report in filter(lambda one: one.results, run.reports):
            setting = _setting(report, own)
            is_own = own is not None and setting == _setting(own, own)
            found[report.file] = OWN if is_own else _title(setting, runs)
    return found


def _title(setting: Setting, runs: Sequence[Run]) -> str:
    """What is other than in the first run that was measured when it was trained."""
    first = next(((run.name, own) for run in runs if (own := _own(run)) is not None), None)
    if first is None:
        return "; ".join(" ".join(pair) for pair in setting)
    base = dict(_setting(first[1], first[1]))
    other = "; ".join(f"{key} {value}" for key, value in setting if base.get(key) != value)
    return other or f"as {first[0]} when it was trained"


def _own(run: Run) -> Report | None:
    """The evaluation of `dmf run`; the recipe may say another setting since, by a sweep's best."""
    return next((report for report in run.reports if report.own and report.results), None)


def _sorted(runs: Sequence[Run], names: set[str]) -> tuple[Values, dict[Setting, Values]]:
    """The values in their runs' own settings, and in each that some command has set."""
    own: Values = {}
    by_setting: dict[Setting, Values] = {}
    asked: list[Setting] = []
    for k, run in enumerate(runs):
        recipe = _own(run)
        for report in run.reports:
            if not report.results:
                continue
            setting = _setting(report, recipe)
            asked += [] if report.own else [setting]
            is_own = recipe is not None and setting == _setting(recipe, recipe)
            for name, value in _values(report, names).items():
                for board in [by_setting.setdefault(setting, {}), *([own] if is_own else [])]:
                    board[k, name] = max(value, board.get((k, name), value), key=lambda one: one.age)
    return own, {setting: by_setting[setting] for setting in dict.fromkeys(asked) if by_setting.get(setting)}


def _setting(report: Report, recipe: Report | None) -> Setting:
    """What a command may set; the reference only where it is not that of the run's own evaluation."""
    protocol = _protocol(report)
    own = protocol if recipe is None else _protocol(recipe)
    keys = [*SETTING, *([] if is_same("reference", protocol, own) else ["reference"])]
    return tuple((key, protocol.get(key, "-")) for key in keys)


def _protocol(report: Report) -> Mapping[str, str]:
    return _whole(one["protocol"] for one in report.results.values())


def _whole(protocols: Iterable[Mapping[str, str]]) -> Mapping[str, str]:
    """That of a value of all the images that were made; a metric may look at fewer of them, or at none."""
    return max(protocols, key=lambda one: ("sampler" in one, int(one["images"]) if one["images"].isdecimal() else 0))


def _values(report: Report, names: set[str]) -> dict[str, Value]:
    """Those to show; a spread stands behind its value."""
    results: Results = report.results
    shown = [n for n in results if n in names and not is_spread(n, results)]
    trained = _protocol(report).get("trained_steps", "")
    age = int(trained) if trained.isdecimal() else 0, report.file.stat().st_mtime
    return {name: Value(results[name], with_spread(name, results), age) for name in shown}


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
    """Those of one setting; a value is held against that of the first run that has it."""
    first = {name: k for k, name in sorted(values, reverse=True)}
    for k in range(len(runs)):
        some = [values[k, name].result["protocol"] for name in names if (k, name) in values]
        if some:
            cells = [_cell(values, k, first.get(name, k), name, runs, notes) for name in names]
            whole = _whole(some)
            yield Row(setting, k, whole.get("trained_steps", "-"), whole["images"], cells)


def _cell(values: Values, k: int, first: int, name: str, runs: Sequence[Run], notes: Notes) -> Cell:
    value = values.get((k, name))
    if value is None:
        return Cell()
    theirs, own = values[first, name].result["protocol"], value.result["protocol"]
    note = notes.mark(runs[k].name, runs[first].name, theirs, own)
    return Cell(value.text, note, held_out_told(value.result))
