"""The summary of a report as Rich tables for the terminal. Loads neither torch nor matplotlib."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .records import GateVerdict, Report
from .units import in_bytes, in_ms, in_ratio, ratio_digits, significant
from .view import VERDICT_WORDS, rows, setting, settings, verdict_sentence, warnings

COLOURS = {"pass": "green", "fail": "bold red", "unjudged": "yellow"}
MARKS = {"pass": "kept", "fail": "broken", "unjudged": "unjudged"}
EXIT_COLOURS = {0: "bold green", 1: "bold red", 2: "bold yellow"}


def summary(report: Report) -> Group:
    """Everything a person wants to see at the end of a run: figures, warnings, the gate's verdict."""
    parts: list[RenderableType] = [summary_table(report)]
    if len(settings(report)) > 1:
        parts.append(latency_table(report))
    parts.extend(Text(f"! {warning}", style="yellow") for warning in warnings(report))
    if report.gate:
        parts.append(gate_table(report.gate))
        parts.append(verdict_line(report.gate))
    return Group(*parts)


def summary_table(report: Report) -> Table:
    """One row per candidate; the second line of a cell is its interval or its share of the reference's."""
    table = _table(caption_justify="left")
    table.add_column("candidate", overflow="fold", min_width=12)
    for heading in ("top-1\n95 %", "size\nshare", "MACs\nparams", "latency", "ratio\n95 %", "memory\nactiv."):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows(report):
        name = Text(row.candidate.name, style="bold")
        name.append("\nreference" if row.is_reference else "", style="not bold dim")
        table.add_row(
            name,
            _cell(row.top1, row.top1_interval),
            _cell(row.size, row.size_ratio),
            _cell(row.macs, row.parameters),
            _cell(row.latency, "" if row.trusted else "unstable", "yellow"),
            _cell(row.ratio or ("1 x" if row.is_reference and row.latency else ""), row.ratio_interval),
            _cell(row.peak_memory, row.activation_peak),
        )
    under = [f"{setting(*key)}; " for key in settings(report)[:1]]
    table.caption = f"{''.join(under)}memory: peak resident, and peak of activations"
    return table


def latency_table(report: Report) -> Table:
    """Every candidate under every runtime, thread count and batch it was measured with."""
    table = _table()
    table.add_column("candidate", overflow="fold", min_width=12)
    table.add_column("runtime\nthreads, batch", no_wrap=True)
    for heading in ("median\nquartiles, ms", "ratio\n95 %", "load\nfirst run"):
        table.add_column(heading, justify="right", no_wrap=True)
    for candidate in report.candidates:
        for record in candidate.latency:
            quartiles = f"{significant(record.q1_ms)}\N{EN DASH}{significant(record.q3_ms)}"
            limits = f"{ratio_digits(record.ratio_low)}\N{EN DASH}{ratio_digits(record.ratio_high)}"
            table.add_row(
                Text(candidate.name, style="bold"),
                _cell(record.runtime, f"{record.threads}, {record.batch}"),
                _cell(in_ms(record.median_ms), quartiles),
                _cell(in_ratio(record.ratio), limits),
                _cell(in_ms(record.load_ms), in_ms(record.first_ms)),
            )
    return table


def memory_table(report: Report) -> Table:
    """Resident size of a fresh process through load and first run, per candidate and runtime."""
    table = _table()
    table.add_column("candidate", overflow="fold", min_width=12)
    table.add_column("runtime\nthreads, batch", overflow="fold")
    for heading in ("before load", "after load", "after first", "steady", "peak"):
        table.add_column(heading, justify="right", no_wrap=True)
    for candidate in report.candidates:
        for record in candidate.memory:
            sizes = (record.before_load, record.after_load, record.after_first, record.steady, record.peak)
            under = _cell(record.runtime, f"{record.threads}, {record.batch}")
            table.add_row(Text(candidate.name, style="bold"), under, *[in_bytes(size) for size in sizes])
    return table


def gate_table(verdict: GateVerdict) -> Table:
    """One row per budget: what was asked, what was measured, the verdict, and why."""
    table = _table()
    table.add_column("gate", no_wrap=True)
    table.add_column("budget", no_wrap=True)
    table.add_column("measured", overflow="fold", min_width=14)
    table.add_column("verdict", no_wrap=True)
    table.add_column("reason", style="dim", overflow="fold")
    for check in verdict.checks:
        mark = Text(MARKS[check.verdict], style=COLOURS[check.verdict])
        name = check.metric.replace("_", " ")
        table.add_row(name, Text(check.budget), Text(check.measured), mark, Text(check.reason))
    if not any(check.reason for check in verdict.checks):
        table.columns.pop()
    return table


def verdict_line(verdict: GateVerdict) -> Text:
    style = EXIT_COLOURS[verdict.exit_code]
    line = Text(f"Gate {VERDICT_WORDS[verdict.exit_code]}", style=style)
    return line.append(f": {verdict_sentence(verdict)}.", style="default not bold")


def _table(**options: Any) -> Table:
    # Seven columns have to fit 80 characters.
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, **options)


def _cell(value: str, below: str = "", style: str = "dim") -> Text:
    cell = Text(value or "-", style="" if value else "dim")
    return cell.append(f"\n{below}", style=style) if below else cell
