"""In which setting a value was measured: what a command may change, and what else a run has in more than one way.

All values of an evaluation have some keys of their protocols in common: how the images were made. By these, values of
several runs are laid beside each other. Any other key, an option of a metric or a version of the code, parts values
where one run has some of either kind: two of one run that cannot be compared are never of one setting. What differs
between runs alone, such as their data, parts nothing: it is marked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ..evaluation.results import differing
from .runs import Report, Run

COMMON = ("images", "sampler", "steps", "grid", "guidance", "guidance.reference", "weights", "seed")  # of a protocol
UNLED = ("none", "no labels")  # a guidance.reference that goes without saying beside the guidance
SHA = re.compile(r", sha256 [0-9a-f]{64}\b")  # of weights: one command leads each run away from its own
HASH = re.compile(r"\b[0-9a-f]{32,}\b")  # of which few digits are enough
Protocol = Mapping[str, str]
Pairs = tuple[tuple[str, str], ...]


class Setting(NamedTuple):
    """A setting; equal ones stand beside each other.

    Attributes:
        common: What all values of an evaluation have in common.
        more: What else of a value is other: than of the first value of its name, or than of its evaluation.
    """

    common: Pairs
    more: Pairs = ()


class Settings:
    """Those of all values of some runs.

    Args:
        runs: Which.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        owns = ((run.name, report) for run in runs if (report := own_of(run)) is not None)
        self._first, report = next(owns, ("", None))
        self._base = {} if report is None else dict(_common(report))
        self._protocols: dict[str, Protocol] = {}  # of the first value of each name
        for one in (one for run in runs for one in run.reports):
            for name, result in one.results.items():
                self._protocols.setdefault(name, result["protocol"])
        self._keys = {name: sorted(keys) for name, keys in _several(runs).items()}

    def of(self, report: Report, name: str) -> Setting:
        """That of a value.

        Args:
            report: Where it stands.
            name: Its own.
        """
        common, protocol = _common(report), report.results[name]["protocol"]
        other = set(differing(self._protocols[name], protocol)) - {*COMMON}
        keys = [key for key in self._keys[name] if key in other or key in COMMON]
        pairs = ((key, protocol.get(key, "-")) for key in keys)
        return Setting(common, tuple(pair for pair in pairs if pair not in common))

    def called(self, setting: Setting) -> str:
        """What is other than in the first run that was measured when it was trained."""
        told = {key for key, _ in setting.more}
        made = dict(setting.common)["images"]
        more = [(key, f"{value} of {made}" if key == "images" else value) for key, value in setting.more]
        other = [*(pair for pair in setting.common if self._is_other(pair) and pair[0] not in told), *more]
        words = [f"{key} {short_digits(value)}" for key, value in other]
        return "; ".join(words) or f"as {self._first} when it was trained"

    def of_report(self, report: Report) -> Setting:
        """What its values have, all together."""
        found = [self.of(report, name) for name in report.results]
        return Setting(found[0].common, tuple(dict.fromkeys(pair for one in found for pair in one.more)))

    def _is_other(self, pair: tuple[str, str]) -> bool:
        key, value = pair
        base = self._base.get(key)
        unled = key == "guidance.reference" and value in UNLED and base in (None, *UNLED)
        return not unled and base != value


def own_of(run: Run) -> Report | None:
    """The evaluation of `dmf run`; the recipe may say another setting since, by a sweep's best."""
    return next((report for report in run.reports if report.own and report.results), None)


def whole(protocols: Iterable[Protocol]) -> Protocol:
    """That of a value of all the images that were made; a metric may look at fewer of them, or at none."""
    return max(protocols, key=lambda one: ("sampler" in one, int(one["images"]) if one["images"].isdecimal() else 0))


def short_digits(text: str) -> str:
    """The text with the beginnings of long digests."""
    return HASH.sub(lambda digits: f"{digits[0][:12]}…", text)


def _common(report: Report) -> Pairs:
    protocol = whole(one["protocol"] for one in report.results.values())
    return tuple((key, SHA.sub("", protocol.get(key, "-"))) for key in COMMON)


def _several(runs: Sequence[Run]) -> dict[str, set[str]]:
    """By the names of values, the keys that part those of one run: of one common setting all, else the metric's own."""
    found: dict[str, set[str]] = {}
    for run in runs:
        first: dict[tuple[str, Pairs], Protocol] = {}
        for name, common, protocol in _measured(run):
            beside, before = first.setdefault((name, common), protocol), first.setdefault((name, ()), protocol)
            own = set(differing(before, protocol)).difference(COMMON)
            found.setdefault(name, set()).update(differing(beside, protocol), own)
    return found


def _measured(run: Run) -> Iterator[tuple[str, Pairs, Protocol]]:
    for report in filter(lambda one: one.results, run.reports):
        common = _common(report)
        yield from ((name, common, one["protocol"]) for name, one in report.results.items())
