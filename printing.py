"""What the command line prints for people, one function per kind of record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .bench.doctor import Diagnosis
from .bench.records import GateVerdict, GraphFacts, Report
from .bench.study import table as study_table
from .bench.study.records import StudyRecord
from .bench.study.rows import rows, students
from .bench.table import gate_table, summary, verdict_line
from .bench.units import in_bytes, in_count
from .compress.quantize.calibration.coverage import coverage_summary
from .compress.quantize.quantize import Quantized
from .compress.quantize.search.searched import Searched
from .compress.quantize.storage.store_weights import StoredWeights
from .dryrun import Plan
from .explanation import Explanation

LISTED = 12
"""Rows of a list that may be as long as a network is deep."""


def print_record(record: BaseModel) -> None:
    PRINTERS[type(record)](_console(), record)


def _report(console: Console, report: Report) -> None:
    console.print(summary(report))


def _gate(console: Console, verdict: GateVerdict) -> None:
    console.print(gate_table(verdict))
    console.print(verdict_line(verdict))


def _facts(console: Console, facts: GraphFacts) -> None:
    table = _pairs()
    covered = facts.int8_macs / facts.macs if facts.macs else 0.0
    table.add_row("file", f"{in_bytes(facts.file_bytes)}, sha256 {facts.sha256[:12]}")
    table.add_row("opset", f"{facts.opset} (IR {facts.ir_version})")
    for kind, tensors in (("input", facts.inputs), ("output", facts.outputs)):
        for name, shape in tensors.items():
            table.add_row(kind, f"{name} {list(shape)}")
    table.add_row("parameters", in_count(facts.parameters))
    table.add_row("MACs", f"{in_count(facts.macs)} per image, {covered:.1%} of them in int8")
    table.add_row("activation peak", f"{in_bytes(facts.activation_peak)} per image")
    weights = sorted(facts.bytes_by_type.items(), key=lambda item: -item[1])
    table.add_row("stored as", ", ".join(f"{name} {in_bytes(size)}" for name, size in weights))
    ops = sorted(facts.ops.items(), key=lambda item: (-item[1], item[0]))
    table.add_row("operators", ", ".join(f"{count} {op}" for op, count in ops))
    for note in facts.notes:
        table.add_row("note", note)
    console.print(table)


def _diagnosis(console: Console, found: Diagnosis) -> None:
    table = _pairs()
    table.add_row("processor", f"{found.environment.cpu}, {found.environment.cores} cores")
    table.add_row("for int8", ", ".join(found.environment.isa) or "no instruction set that matters")
    table.add_row("int8 here", found.int8)
    for runtime in found.runtimes:
        state = runtime.version or f"missing ({runtime.reason})"
        table.add_row("runtime", f"{runtime.name} {state}")
    for hint in found.hints:
        table.add_row("measuring", hint)
    console.print(table)


def _plan(console: Console, plan: Plan) -> None:
    table = Table(box=box.SIMPLE_HEAD, title=plan.name, title_style="bold", title_justify="left")
    for heading in ("", "step"):
        table.add_column(heading)
    for heading in ("parameters", "MACs", "file"):
        table.add_column(heading, justify="right")
    for number, step in enumerate(plan.steps, start=1):
        table.add_row(
            str(number),
            step.what,
            "" if step.parameters is None else in_count(step.parameters),
            "" if step.macs is None else in_count(step.macs),
            "" if step.file_bytes is None else in_bytes(step.file_bytes),
        )
    console.print(table)
    if plan.widths:
        console.print(_widths(plan))
    console.print(Text(plan.note, style="dim"))


def _widths(plan: Plan) -> Table:
    """Groups of channels that lose some, with what a scan found, and those that keep all, with the reason."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("channels of", overflow="fold")
    for heading in ("before", "after"):
        table.add_column(heading, justify="right")
    scanned = any(width.scanned for width in plan.widths)
    if scanned:
        table.add_column("loss at widths of the scan", overflow="fold")
    table.add_column("all stay because", overflow="fold")
    for width in plan.widths:
        points = "  ".join(f"{point.loss:+.3f} at {point.after}" for point in width.scanned)
        table.add_row(width.layer, str(width.before), str(width.after), *([points] if scanned else []), width.reason)
    return table


def _explanation(console: Console, found: Explanation) -> None:
    milliseconds = f"{found.float_ms:.3f} ms float, {found.latency.median_ms:.3f} ms int8"
    title = f"{found.int8_file} against {found.float_file}: {milliseconds}, {found.runtime}"
    console.print(title, style="bold", highlight=False)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("kind of operator")
    for heading in ("float ms", "int8 ms", "of int8"):
        table.add_column(heading, justify="right")
    for kind in found.kinds:
        table.add_row(kind.kind, f"{kind.float_us / 1e3:.3f}", f"{kind.int8_us / 1e3:.3f}", f"{kind.int8_share:.1%}")
    console.print(table)
    slowest = Table(box=box.SIMPLE_HEAD)
    for heading in ("slowest in int8", "operator"):
        slowest.add_column(heading, overflow="fold")
    slowest.add_column("ms", justify="right")
    for node in found.slowest_int8:
        slowest.add_row(node.name, node.op, f"{node.microseconds / 1e3:.3f}")
    console.print(slowest)
    rows = [(node.name, node.op, node.reason) for node in found.audit.floats] + [
        (left.name, left.op, f"between {left.before} and {', '.join(left.after)}") for left in found.audit.survivors
    ]
    if rows:
        kept = Table(box=box.SIMPLE_HEAD)
        for heading in ("left in float", "operator", "because"):
            kept.add_column(heading, overflow="fold")
        for row in rows[:LISTED]:
            kept.add_row(*row)
        console.print(kept)
        if len(rows) > LISTED:
            console.print(f"  and {len(rows) - LISTED} more, which --json lists\n")
    for doubt in found.latency.unstable:
        console.print(Text(f"Unstable: {doubt}", style="yellow"))
    console.print(found.verdict, highlight=False)


PAIRED = (
    ("top-1, %", "(95 %)", "top-1, % (95 %)", ""),
    ("PE", "rank", "PE", "rank"),
    ("not zero", "times less", "not zero", "compression"),
    ("encoded", "its PE", "encoded", "PE of bytes"),
    ("file", "packed", "file", "packed"),
    ("latency", "(95 %)", "latency (95 %)", ""),
)
"""Columns of a study in the terminal: two headings, and the two figures under them."""


def print_study(record: StudyRecord) -> None:
    """A table per student, what could not be made, and how to read it all."""
    console = _console()
    found = rows(record)
    for student in students(record):
        table = Table(
            box=box.SIMPLE_HEAD,
            title=student,
            title_style="bold",
            title_justify="left",
            padding=(0, 1, 0, 0),
            pad_edge=False,
        )
        table.add_column("network", overflow="fold", min_width=12)
        for above, below, *_ in PAIRED:
            table.add_column(f"{above}\n{below}", justify="right", no_wrap=True)
        for row in found:
            if row.student == student:
                texts = {"": "", **study_table.cells(row, record)}
                table.add_row(texts["network"], *[_stacked(texts[above], texts[below]) for *_, above, below in PAIRED])
        console.print(table)
    for refused in record.refused:
        console.print(Text(f"Not made: {refused.cell.name}: {refused.reason}", style="yellow"))
    for note in study_table.notes(record):
        console.print(Text(note, style="dim"))


def _stacked(above: str, below: str) -> str:
    """Two texts on two lines; an interval in parentheses stands below its figure."""
    return f"{above}\n{below}".replace(" (", "\n(").rstrip()


def print_quantized(result: Quantized, path: Path) -> None:
    """The verdict of `quantize`, then every operator that stays float, with its reason."""
    console = _console()
    console.print(Text.assemble((str(path), "bold"), f": {result.summary()}"))
    if result.coverage:
        console.print(coverage_summary(result.coverage), markup=False, highlight=False)
    left = [node for node in result.audit.nodes if node.kind == "float"]
    if left:
        table = Table(box=box.SIMPLE_HEAD)
        for heading in ("stays float", "operator", "because"):
            table.add_column(heading, overflow="fold")
        for node in left:
            table.add_row(node.name, node.op, node.reason)
        console.print(table)


def print_stored(result: StoredWeights, path: Path) -> None:
    """The verdict of `store-weights`, then every operator whose weights stay float32, with its reason."""
    console = _console()
    console.print(Text.assemble((str(path), "bold"), f": {result.summary()}"))
    left = [weight for weight in result.weights if weight.reason]
    if left:
        table = Table(box=box.SIMPLE_HEAD)
        for heading in ("keeps float32 weights", "operator", "because"):
            table.add_column(heading, overflow="fold")
        for weight in left[:LISTED]:
            table.add_row(weight.node, weight.op, weight.reason)
        console.print(table)
        if len(left) > LISTED:
            console.print(f"  and {len(left) - LISTED} more, which --json lists\n")


def print_searched(result: Searched, path: Path) -> None:
    """Every file that a search tried, the operators that bring most noise, and what was chosen."""
    console = _console()
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("scheme", "in float"):
        table.add_column(heading, overflow="fold")
    for heading in ("drop, points", "95 % interval", "latency", "file"):
        table.add_column(heading, justify="right")
    for trial in result.trials:
        table.add_row(
            str(trial.scheme),
            ", ".join(trial.keep_float) if len(trial.keep_float) <= LISTED else f"{len(trial.keep_float)} operators",
            f"{trial.drop:.2f}",
            f"{trial.low:.2f} to {trial.high:.2f}",
            "" if trial.latency is None else f"{trial.latency:.3f} x",
            in_bytes(trial.file_bytes),
            style="bold" if trial == result.best else None,
        )
    console.print(table)
    if result.sensitivities:
        ranking = Table(box=box.SIMPLE_HEAD)
        for heading in ("most noise", "operator"):
            ranking.add_column(heading, overflow="fold")
        for heading in ("signal to noise, dB", "agreement"):
            ranking.add_column(heading, justify="right")
        for found in result.sensitivities[:LISTED]:
            ranking.add_row(found.name, found.op, f"{found.decibels:.1f}", f"{found.agreement:.1%}")
        console.print(ranking)
    console.print(Text.assemble((str(path), "bold"), f": {result.summary()}"))


def _console() -> Console:
    # The names of layers and operators come from files: "[/conv]" is a name, not markup.
    return Console(markup=False, emoji=False)


def _pairs() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


PRINTERS: dict[type[BaseModel], Callable[[Console, Any], None]] = {
    Report: _report,
    GateVerdict: _gate,
    GraphFacts: _facts,
    Diagnosis: _diagnosis,
    Plan: _plan,
    Explanation: _explanation,
}
