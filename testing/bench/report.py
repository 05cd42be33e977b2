"""What a person sees of a benchmark of samplers: tables and a plot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .problems import Problem
from .samplers import Result, floor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEST = "best other"


def tables(results: Sequence[Result], problems: Sequence[Problem]) -> str:
    """Markdown tables: for each problem one of the deterministic samplers, one of the stochastic ones.

    Args:
        results: Of all problems.
        problems: What was measured on.
    """
    parts = []
    for problem in problems:
        mine = [r for r in results if r.problem == problem.name]
        parts.append(
            f"**{problem.name} mixture**: RMS distance from the exact end, in standard deviations of the data;"
            f" {len(problem.noise)} points, {problem.left_out} near a border left out\n"
        )
        parts.append(_table(_rows([r for r in mine if r.kind != "stochastic" and not r.adaptive], best_other=True)))
        adaptive = {r.evaluations: r for r in mine if r.adaptive}.values()
        if adaptive:
            shown = ", ".join(f"{r.error:.2g} with {r.evaluations}" for r in adaptive)
            parts.append(f"`{next(iter(adaptive)).sampler}`, which chooses its own evaluations: {shown}.\n")
        noisy = [r for r in mine if r.kind == "stochastic"]
        if noisy:
            parts.append(
                f"**{problem.name} mixture, samplers with noise**: sliced Wasserstein distance from the data, likewise;"
                f" {floor(problem):.2g} is that of fresh data\n"
            )
            parts.append(_table(_rows(noisy, best_other=False)))
    return "\n".join(parts)


def _rows(results: Iterable[Result], best_other: bool) -> dict[str, dict[int, float]]:
    """Name of a row -> {evaluations: error}; the best of the others at each number comes last."""
    rows: dict[str, dict[int, float]] = {}
    best: dict[int, float] = {}
    for r in results:
        if r.kind == "others":
            best[r.budget] = min(best.get(r.budget, r.error), r.error)
        name = f"`{r.sampler}` on `{r.grid}`" if r.kind != "others" else f"diffusers {r.sampler}"
        rows.setdefault(name, {})[r.budget] = r.error
    return {**rows, f"**{BEST}**": best} if best_other and best else rows


def _table(rows: dict[str, dict[int, float]]) -> str:
    budgets = sorted({budget for row in rows.values() for budget in row})
    least = {b: min(row[b] for name, row in rows.items() if b in row and BEST not in name) for b in budgets}
    lines = [
        f"| network evaluations | {' | '.join(map(str, budgets))} |",
        f"|---{'|---:' * len(budgets)}|",
    ]
    for name, row in rows.items():
        cells = [_cell(row.get(b), least[b]) for b in budgets]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _cell(error: float | None, least: float) -> str:
    if error is None:
        return ""
    shown = f"{error:.2g}" if error < 10 else ">10"
    return f"**{shown}**" if error == least else shown


def plot(results: Sequence[Result], file: Path) -> None:
    """Error against evaluations, a panel a problem, of the samplers without noise."""
    from matplotlib.figure import Figure

    problems = list(dict.fromkeys(r.problem for r in results))
    figure = Figure(figsize=(7.5 * len(problems), 6.0), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(problems), squeeze=False)[0], problems, strict=True):
        _panel(axes, name, [r for r in results if r.problem == name and r.kind != "stochastic"])
    figure.savefig(file, dpi=110)


def _panel(axes: Axes, name: str, results: Sequence[Result]) -> None:
    ours: dict[str, list[Result]] = {}
    for r in results:
        if r.kind == "ours":
            ours.setdefault(r.sampler, []).append(r)
    for i, (sampler, walks) in enumerate(ours.items()):
        style: dict[str, Any] = {"marker": "osv^DPX"[i % 7], "color": f"C{i % 10}", "linestyle": "-" if i < 10 else ":"}
        axes.plot([w.evaluations for w in walks], [w.error for w in walks], label=sampler, markersize=4, **style)
    best = _rows([r for r in results if r.kind == "others"], best_other=True).get(f"**{BEST}**", {})
    if best:
        axes.plot([*best], [*best.values()], "k--", linewidth=2.2, label="best of diffusers")
    axes.set(xscale="log", yscale="log", ylim=(None, 2), xlabel="network evaluations", title=f"{name} mixture")
    ticks = sorted({r.budget for r in results if not r.adaptive})
    axes.set_xticks(ticks, map(str, ticks))
    axes.minorticks_off()
    axes.set_ylabel("RMS distance from the exact end / standard deviation of the data")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2, loc="lower left")
