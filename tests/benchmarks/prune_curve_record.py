"""The record of `prune_curve`: JSON, a table and a drawing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgelathe import __version__
from edgelathe.bench.environment import environment
from edgelathe.bench.svg import INK, MUTED, document, drawing, figure, fragment, series
from edgelathe.bench.units import in_count, in_percent, percent_decimals, signed
from edgelathe.bench.view import between
from edgelathe.files import write_atomic

from .command import now
from .table import markdown_table

Row = Mapping[str, Any]
HEADINGS = (
    "criterion", "MACs", "fewer", "parameters", "cut", "norms again", "recovered", "change (95 %)", "agreement (95 %)",
)  # fmt: skip
APART = 0.004
"""Share of the MACs between intervals of criteria drawn beside each other."""


def write_record(folder: Path, network: str, whole: Row, rows: Sequence[Row], settings: Row, command: str) -> None:
    """Write curve.json, curve.md and, where there is a row, curve.svg into `folder`."""
    rows = sorted(rows, key=lambda row: (-row["keep"], -row["recovered"]["correct"], row["name"]))
    record = {
        "command": command, "created": now(), "tool_version": __version__, "network": network, "settings": settings,
        "environment": environment().model_dump(mode="json"), "whole": whole, "rows": rows,
    }  # fmt: skip
    write_atomic(folder / "curve.json", json.dumps(record, indent=1) + "\n", "the curve's figures")
    write_atomic(folder / "curve.md", markdown(record), "the curve's table")
    if rows:
        write_atomic(folder / "curve.svg", draw(record), "the curve's drawing")


def markdown(record: Row) -> str:
    whole, settings, found = record["whole"], record["settings"], record["environment"]
    decimals = percent_decimals(whole["total"])
    lines = [
        f"# {record['network']}: accuracy against MACs",
        f"Whole: {_percent(whole['accuracy'], whole)} of {whole['total']} test images right "
        f"({_interval(whole['accuracy_interval'], decimals)}).",
        markdown_table(HEADINGS, [_cells(row) for row in record["rows"]]),
        "\n".join(f"- {note}" for note in _notes(settings)),
        f"`{record['command']}`, seed {settings['seed']}; {found['cpu']}, {found['cores']} cores, "
        f"torch {found['versions'].get('torch', 'unknown')}",
        *(["![accuracy against MACs](curve.svg)"] if record["rows"] else []),
    ]
    return "\n\n".join(lines) + "\n"


def label(row: Row) -> str:
    return str(row["criterion"]) + ("" if row["scope"] == "uniform" else f", {row['scope']}")


def _cells(row: Row) -> list[str]:
    after = row["recovered"]
    decimals = percent_decimals(after["total"])
    change = f"{signed(100 * after['difference'], decimals)} ({_interval(after['difference_interval'], decimals)})"
    return [
        label(row),
        f"{in_count(row['macs'])} ({in_percent(row['macs'] / row['macs_before'])})",
        f"{row['macs_before'] / row['macs']:.2f} x",
        f"{in_count(row['parameters'])} ({in_percent(row['parameters'] / row['parameters_before'])})",
        *(_percent(row[step]["accuracy"], after) for step in ("cut", "norms", "recovered")),
        change,
        f"{_percent(after['agreement'], after)} ({_interval(after['agreement_interval'], decimals)})",
    ]


def _notes(settings: Row) -> list[str]:
    passes = "one pass" if settings["epochs"] == 1 else f"{settings['epochs']} passes"
    taught = f"alpha {settings['alpha']:g}, T {settings['temperature']:g}"
    return [
        "cut, norms again, recovered: accuracy right after the cut, with batch norms measured again, and after the"
        " distillation; change: of the last from the whole network, in points, and agreement: with its answers, both on"
        " the same images, so that the interval of the change is a paired one (Tango 1998)",
        f"recovery, the same for all: {passes} over {settings['images']:,} training images augmented"
        f" by {settings['augment']}, distilled from the whole network ({taught}), SGD from lr {settings['lr']:g},"
        f" cosine, batches of {settings['batch']}, {settings['precision']}",
        f"criteria that look at images look at {settings['samples']}; one seed; intervals are of the comparison with"
        " the whole network, not of criteria with each other",
    ]


def draw(record: Row) -> str:
    """Accuracy after recovery over the share of the MACs, with the paired intervals."""
    rows, whole = record["rows"], record["whole"]
    labels = list(dict.fromkeys(label(row) for row in sorted(rows, key=label)))
    with drawing():
        drawn = figure(6.4, 3.8)
        axes = drawn.add_subplot()
        axes.axhline(100 * whole["accuracy"], color=INK, linewidth=0.8)
        axes.annotate("whole", (0.01, 100 * whole["accuracy"]), xycoords=("axes fraction", "data"), va="bottom")
        for number, name in enumerate(labels):
            mine = sorted((row for row in rows if label(row) == name), key=lambda row: row["macs"])
            shift = APART * (number - (len(labels) - 1) / 2)
            at = [row["macs"] / row["macs_before"] + shift for row in mine]
            reached = [100 * row["recovered"]["accuracy"] for row in mine]
            colour = series(number)
            axes.plot(at, reached, "o-", color=colour, markersize=4.5, linewidth=1.1, label=name)
            for x, row in zip(at, mine, strict=True):
                low, high = row["recovered"]["difference_interval"]
                axes.vlines(x, *(100 * (whole["accuracy"] + end) for end in (low, high)), color=colour, linewidth=1.1)
        axes.set_xlabel("MACs, share of the whole network's", color=MUTED)
        axes.set_ylabel("top-1, %")
        axes.legend(frameon=False)
        return document(fragment(drawn, "curve", f"Accuracy of pruned {record['network']} against MACs"))


def _percent(share: float, of: Row) -> str:
    return in_percent(share, of["total"])


def _interval(shares: Sequence[float], decimals: int) -> str:
    low, high = (100 * share for share in shares)
    return between(low, high, decimals) if low >= 0 else f"{signed(low, decimals)} to {signed(high, decimals)}"
