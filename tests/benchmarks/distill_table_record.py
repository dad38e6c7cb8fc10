"""The record of `distill_table` as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgelathe.bench.units import in_percent, percent_decimals, signed
from edgelathe.bench.view import between

from .table import markdown_table


def markdown(record: Mapping[str, Any]) -> str:
    rows, settings, found = record["rows"], record["settings"], record["environment"]
    judged = list(rows[0]["against"]) if rows else []
    headings = ["student", "seed", *(f"{name}{part}" for name in judged for part in (" (95 %)", ", against bar"))]
    lines = [
        f"# Distillation by {settings['table']}",
        markdown_table(headings, [[row["name"], str(row["seed"]), *_cells(row, judged)] for row in rows]),
        "\n".join(
            (
                f"- bar: {', '.join(sorted({row['bar'] for row in rows}))}; the difference is in points, on the same"
                " images, with Tango's paired interval",
                f"- {settings['epochs']} epochs over {settings['images']:,} images, batches of {settings['batch']}, SGD"
                f" from lr {settings['lr']:g}, cosine, crop and flip, {settings['views'] or 'new'} views,"
                f" {settings['precision']}; teacher {settings['teacher']}; accuracy right after the last epoch",
            )
        ),
        f"`{record['command']}`; {found['cpu']}, {found['cores']} cores, torch "
        f"{found['versions'].get('torch', 'unknown')}",
    ]
    return "\n\n".join(lines) + "\n"


def _cells(row: Mapping[str, Any], judged: list[str]) -> list[str]:
    cells = []
    for name in judged:
        found = row["against"][name]
        decimals = percent_decimals(found["total"])
        low, high = (100 * end for end in found["accuracy_interval"])
        cells.append(f"{in_percent(found['accuracy'], found['total'])} ({between(low, high, decimals)})")
        least, most = (signed(100 * end, decimals) for end in found["difference_interval"])
        own = row["name"] == row["bar"]
        cells.append("" if own else f"{signed(100 * found['difference'], decimals)} ({least} to {most})")
    return cells
