"""Results as they are kept and shown; their JSON Schema is ``report.schema.json``, beside this file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

# {name: {"value", "protocol", and where there are: "sd", "min", "values", "held_out": {"value", "images"}, "cautions"}}
Results = dict[str, dict[str, Any]]
SD = "_sd"  # what ends the name of a value that is the spread of the one without it
SUBJECT = ("trained_steps", "generated", "generated.fingerprint")  # of the protocol: what is compared, not how


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
    keys = [key for key in (*a, *(key for key in b if key not in a)) if key not in SUBJECT]
    return [f"{key}: {a.get(key, '-')} / {b.get(key, '-')}" for key in keys if a.get(key) != b.get(key)]


def repeated(runs: Sequence[Results]) -> Results:
    """One result of several that differ in their seeds alone: mean, standard deviation, minimum, each value.

    Args:
        runs: Of each seed, in order.
    """
    if len(runs) == 1:
        return runs[0]
    return {name: _over_seeds([run[name] for run in runs]) for name in runs[0]}


def _over_seeds(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    values = [one["value"] for one in found]
    spread = {"value": statistics.fmean(values), "sd": statistics.stdev(values), "min": min(values), "values": values}
    protocol = dict(found[0]["protocol"])
    if "seed" in protocol:
        protocol["seed"] = ", ".join(one["protocol"]["seed"] for one in found)
    cautions = list(dict.fromkeys(said for one in found for said in one.get("cautions", ())))
    return {**found[0], **spread, "protocol": protocol, **({"cautions": cautions} if cautions else {})}


def table(results: Results) -> str:
    """The results as a person reads them: held-out images' values beside, for scale, cautions beneath."""
    least = any("min" in one for one in results.values())
    rows = [["metric", "generated", *(["least"] if least else []), "images", "held-out real"]]
    for name, one in results.items():
        if name.endswith(SD) and name.removesuffix(SD) in results:
            continue  # it stands behind its value
        row = [name, with_spread(name, results), *([_told(one.get("min"))] if least else [])]
        rows.append([*row, str(one["protocol"]["images"]), _held_out(one)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    said = list(dict.fromkeys(caution for one in results.values() for caution in one.get("cautions", ())))
    return "\n".join([*lines, *(f"  caution: {caution}" for caution in said)])


def with_spread(name: str, results: Results) -> str:
    """A value with its spread: over repeats where it has one, else the metric's own.

    Args:
        name: Of the value.
        results: Where it stands, its spread beside it.
    """
    one, own = results[name], results.get(f"{name}{SD}")
    sd = one.get("sd", own["value"] if own else None)
    return f"{one['value']:.4g}" if sd is None else f"{one['value']:.4g} ± {sd:.2g}"


def _held_out(one: Mapping[str, Any]) -> str:
    real = one.get("held_out")
    return f"{real['value']:.4g} ({real['images']} images)" if real else "-"


def _told(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
