"""Results as they are kept and shown."""

from __future__ import annotations

from typing import Any

Results = dict[str, dict[str, Any]]  # {name: {"value", "protocol", "held_out": {"value", "images"}}}


def table(results: Results) -> str:
    """The results as a person reads them; the held-out images' values stand beside, for scale."""
    rows = [("metric", "generated", "held-out real")]
    for name, result in results.items():
        real = result.get("held_out")
        beside = f"{real['value']:.4g} ({real['images']} images)" if real else "-"
        rows.append((name, f"{result['value']:.4g} ({result['protocol']['images']} images)", beside))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
