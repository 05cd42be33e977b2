"""Folders as runs leave them, made without training."""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from conftest import TINY

from dmf.files.sheets import save_png
from dmf.registry import read

PROTOCOL = {
    "images": "500",
    "reference": "digits, 1497 images",
    "sampler": "heun(churn=0.0)",
    "steps": "20",
    "grid": "arctan()",
    "guidance": "none",
    "weights": "ema",
    "seed": "1",
    "trained_steps": "12",
}


def results(**values: float) -> dict[str, Any]:
    """Results of these values, all of one protocol."""
    return {name: {"value": value, "protocol": dict(PROTOCOL)} for name, value in values.items()}


def of(found: Mapping[str, Any], **protocol: str) -> dict[str, Any]:
    """The same results of another protocol."""
    return {name: {**one, "protocol": {**one["protocol"], **protocol}} for name, one in found.items()}


def history(losses: Sequence[float | None], batch: int = 10) -> str:
    """Lines, one a step."""
    lines = []
    for step, loss in enumerate(losses, 1):
        values = {"loss": loss, "learning_rate": 1e-3, "gradient_norm": 1.0, "images_seen": float(step * batch)}
        lines.append(json.dumps({"step": step, "time": 0.0, "values": {**values, "step_ms": 5.0}}) + "\n")
    return "".join(lines)


def make_run(
    folder: Path,
    *overrides: str,
    losses: Sequence[float | None] = (2.0, 1.0, 0.5),
    metrics: Mapping[str, Any] | None = None,
    evaluations: Mapping[str, Mapping[str, Any]] | None = None,
    during: Sequence[tuple[float, Mapping[str, Any]]] = (),
    grey: int = 100,
) -> Path:
    """The folder of a run.

    Args:
        folder: Where; its name is the run's.
        overrides: Of the small recipe.
        losses: One a step.
        metrics: Of its own evaluation; None has none.
        evaluations: Results by the name of their file.
        during: Images seen, and results.
        grey: Of the pixels of its samples.
    """
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(TINY, encoding="utf-8")
    recipe = read(folder / "recipe.yaml", overrides)
    (folder / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    facts = {"recipe.digest": recipe.digest(), "network.parameters": "12345", "machine.device": "cpu"}
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    (folder / "history.jsonl").write_text(history(losses), encoding="utf-8")
    lines = [
        json.dumps({"step": 1, "time": 0.0, "images_seen": seen, "results": found}) + "\n" for seen, found in during
    ]
    if lines:
        (folder / "evaluations.jsonl").write_text("".join(lines), encoding="utf-8")
    if metrics is not None:
        (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    for name, found in (evaluations or {}).items():
        (folder / "evaluation").mkdir(exist_ok=True)
        (folder / "evaluation" / name).write_text(json.dumps(found), encoding="utf-8")
    save_png(torch.full((3, 20, 30), grey, dtype=torch.uint8), folder / "samples" / "grid.png")
    save_png(torch.zeros(3, 20, 30, dtype=torch.uint8), folder / "data.png")
    return folder


def table(out: str, title: str) -> dict[str, list[str]]:
    """The rows of one of the tables on the screen, by their first word."""
    lines = out.split(f"{title}:\n")[1].split("\n\n")[0].splitlines()
    return {line.split()[0]: re.split(r"\s{2,}", line.strip())[1:] for line in lines}


def values_in(out: str, setting: str) -> list[str]:
    """The last value of each row of a setting."""
    after = out.split(f"\n  {setting}:\n")[1].splitlines()
    rows = [line for line in itertools.takewhile(lambda line: line.startswith("    "), after) if "  run " not in line]
    return [re.split(r"\s{2,}", row)[-1] for row in rows]


def sweep_point(run: Path, name: str, found: Mapping[str, Any]) -> None:
    place = run / "sweeps/points" / name
    place.mkdir(parents=True)
    point = {"point": name, "results": found, "better": {}}
    (place / "results.json").write_text(json.dumps(point), encoding="utf-8")
