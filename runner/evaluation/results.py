"""Results as they are kept and shown; their JSON Schema is ``report.schema.json``, beside this file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Collection, Container, Mapping
from importlib.resources import files
from typing import Any

from ..tables import table as columns

# {name: {"value", "protocol", and where there are: "sd", "min", "values", "held_out": {"value", "images"}, "cautions"}}
Results = dict[str, dict[str, Any]]
SD = "_sd"  # what ends the name of a value that is the spread of the one without it
SUBJECT = ("trained_steps", "generated", "generated.fingerprint")  # of the protocol: what is compared, not how
FOLLOWS = ("evaluations",)  # from sampler, steps, grid and guidance; of an adaptive sampler from the images too
ROUNDING = ("version.torch", "version.torchvision")  # of the protocol: as a rule they change last bits alone
APART_BY_NONE = (*SUBJECT, *FOLLOWS, *ROUNDING)


def schema() -> dict[str, Any]:
    """The JSON Schema of `Results`."""
    found = json.loads(files(__package__).joinpath("report.schema.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def protocol_differences(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    """What keeps two values from being compared: "sampler: ddim(eta=0.0) / heun(churn=0.0)"; empty for nothing.

    Args:
        a: The protocol of one.
        b: That of the other.
    """
    return [f"{key}: {a.get(key, '-')} / {b.get(key, '-')}" for key in differing(a, b)]


def differing(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    """The keys of two protocols that keep their values from being compared.

    What is compared, what follows from other keys, and the versions of torch and torchvision, which are in the protocol
    for whoever looks for the cause of a small difference, keep nothing apart; nor do two names of the same images.

    Args:
        a: One.
        b: The other.
    """
    keys = [key for key in (*a, *(key for key in b if key not in a)) if key not in APART_BY_NONE]
    return [key for key in keys if not _is_same(key, a, b)]


def decisive(protocol: Mapping[str, str]) -> dict[str, str]:
    """What of a protocol must be equal for two values to be compared: of two such, nothing else differs."""
    named = {key for key in protocol if f"{key}.fingerprint" in protocol}
    return {key: value for key, value in protocol.items() if key not in {*APART_BY_NONE, *named}}


def _is_same(key: str, a: Mapping[str, str], b: Mapping[str, str]) -> bool:
    """Whether two protocols mean the same by a key: of images their fingerprint counts, not what they were called."""
    mark = f"{key}.fingerprint"
    return a.get(key) == b.get(key) or (mark in a and a[mark] == b.get(mark))


def repeated(runs: Mapping[int, Results], once: Collection[str] = ()) -> Results:
    """One result of several that differ in their seeds alone: mean, standard deviation, minimum, each value.

    A value that some seeds have and others not is of those that have it, and a caution says so.

    Args:
        runs: Of each seed, in order.
        once: Names of values that depend on no seed: those of the first run, without a spread.
    """
    first = next(iter(runs.values()))
    if len(runs) == 1:
        return first
    names = dict.fromkeys(name for run in runs.values() for name in run)
    return {name: first[name] if name in once else _over_seeds(name, runs) for name in names}


def _over_seeds(name: str, runs: Mapping[int, Results]) -> dict[str, Any]:
    found = {seed: run[name] for seed, run in runs.items() if name in run}
    one, values = next(iter(found.values())), [each["value"] for each in found.values()]
    several = {"sd": statistics.stdev(values), "min": min(values), "values": values} if len(values) > 1 else {}
    protocol = {**one["protocol"], "seed": ", ".join(map(str, found))}
    cautions = list(dict.fromkeys(said for each in found.values() for said in each.get("cautions", ())))
    if lacking := [str(seed) for seed in runs if seed not in found]:
        cautions.append(
            f"{name} is of {len(found)} of {len(runs)} seeds: the images of seed {', '.join(lacking)} gave none"
        )
    told = {"cautions": cautions} if cautions else {}
    return {**one, "value": statistics.fmean(values), **several, "protocol": protocol, **told}


def table(results: Results) -> str:
    """The results as a person reads them: held-out images' values beside, for scale, cautions beneath."""
    least = any("min" in one for one in results.values())
    rows = [["metric", "generated", *(["least"] if least else []), "images", "held-out real"]]
    for name in (name for name in results if not is_spread(name, results)):  # that stands behind its value
        one, value = results[name], with_spread(name, results)
        images, fewest = one["protocol"]["images"], [_told(one.get("min"))] if least else []
        if "held_out" in one["protocol"]:  # it looks at nothing else
            rows.append([name, "-", *fewest, "-", f"{value} ({images} images)"])
        else:
            rows.append([name, value, *fewest, images, held_out_told(one) or "-"])
    lines = columns(rows)
    said = list(dict.fromkeys(caution for one in results.values() for caution in one.get("cautions", ())))
    return "\n".join([*lines, *(f"  caution: {caution}" for caution in said)])


def with_spread(name: str, results: Results) -> str:
    """A value with its spread: over repeats where it has one, else the metric's own.

    Args:
        name: Of the value.
        results: Where it stands, its spread beside it.
    """
    value, sd = results[name]["value"], spread_of(name, results)
    return f"{value:.4g}" if sd is None else f"{value:.4g} ± {sd:.2g}"


def is_spread(name: str, names: Container[str]) -> bool:
    """Whether a value is the spread of another, and no value of its own.

    Args:
        name: Of the value.
        names: Of those beside it.
    """
    return name.endswith(SD) and name.removesuffix(SD) in names


def spread_of(name: str, results: Results) -> float | None:
    """A value's spread: over repeats where it has one, else the metric's own; None without either.

    Args:
        name: Of the value.
        results: Where it stands, its spread beside it.
    """
    own = results.get(f"{name}{SD}")
    found: float | None = results[name].get("sd", own["value"] if own else None)
    return found


def held_out_told(one: Mapping[str, Any]) -> str:
    """What real images have in place of generated ones; empty where that is not known."""
    real = one.get("held_out")
    return f"{real['value']:.4g} ({real['images']} images)" if real else ""


def _told(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
