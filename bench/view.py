"""What a report says in words and short figures, for the terminal table, the Markdown and the HTML page."""

from __future__ import annotations

from dataclasses import dataclass

from ..models.exitnames import MAIN
from .paired import Change, accuracy_change
from .records import Accuracy, Candidate, GateVerdict, LayerWidth, NodeOutcome, Report
from .units import (
    in_bytes,
    in_count,
    in_ms,
    in_percent,
    in_points,
    in_ratio,
    percent_decimals,
    ratio_digits,
    signed,
)

VERDICT_WORDS = {0: "passed", 1: "failed", 2: "cannot judge"}


@dataclass(frozen=True)
class Row:
    """One candidate as short texts; empty where nothing was measured."""

    candidate: Candidate
    is_reference: bool
    top1: str
    top1_interval: str
    change: str
    """Top-1 against the reference, in points."""
    change_interval: str
    size: str
    size_ratio: str
    parameters: str
    macs: str
    latency: str
    ratio: str
    ratio_interval: str
    trusted: bool
    """False where a latency of this candidate is unstable."""
    peak_memory: str
    activation_peak: str
    int8_share: str


def reference_of(report: Report) -> Candidate:
    return next(candidate for candidate in report.candidates if candidate.name == report.reference)


def subject_of(report: Report) -> Candidate:
    """The candidate a report is about: the judged one, else the last."""
    judged = report.gate.candidate if report.gate else None
    return next((entry for entry in report.candidates if entry.name == judged), report.candidates[-1])


def rows(report: Report) -> list[Row]:
    reference = reference_of(report)
    return [_row(candidate, reference) for candidate in report.candidates]


def _row(candidate: Candidate, reference: Candidate) -> Row:
    facts, accuracy, is_reference = candidate.facts, candidate.accuracy, candidate is reference
    latency = candidate.latency[0] if candidate.latency else None
    change = None if is_reference else accuracy_change(candidate, reference)
    decimals = percent_decimals(accuracy.total) if accuracy else 1
    size_ratio = facts.file_bytes / reference.facts.file_bytes if reference.facts.file_bytes else None
    return Row(
        candidate=candidate,
        is_reference=is_reference,
        top1=in_percent(accuracy.top1, accuracy.total) if accuracy else "",
        top1_interval=between(100 * accuracy.low, 100 * accuracy.high, decimals) if accuracy else "",
        change=in_points(change.points, decimals) if change else "",
        change_interval=change_interval(change, decimals),
        size=in_bytes(facts.file_bytes),
        size_ratio=in_ratio(size_ratio) if size_ratio is not None and not is_reference else "",
        parameters=in_count(facts.parameters),
        macs=in_count(facts.macs),
        latency=in_ms(latency.median_ms) if latency else "",
        ratio=in_ratio(latency.ratio) if latency and not is_reference else "",
        ratio_interval=f"{ratio_digits(latency.ratio_low)}\N{EN DASH}{ratio_digits(latency.ratio_high)}"
        if latency and not is_reference
        else "",
        trusted=not any(record.unstable for record in candidate.latency),
        peak_memory=in_bytes(candidate.memory[0].peak) if candidate.memory else "",
        activation_peak=in_bytes(facts.activation_peak),
        int8_share="" if not facts.macs else in_percent(facts.int8_macs / facts.macs) if facts.int8_macs else "0 %",
    )


def between(low: float, high: float, decimals: int) -> str:
    return f"{low:.{decimals}f}\N{EN DASH}{high:.{decimals}f}"


def change_interval(change: Change | None, decimals: int = 1) -> str:
    if change is None:
        return ""
    return f"{signed(change.low, decimals)} to {signed(change.high, decimals)}"


def setting(runtime: str, threads: int, batch: int) -> str:
    return f"{runtime}, {threads} thread{'s' if threads > 1 else ''}, batch {batch}"


def settings(report: Report) -> list[tuple[str, int, int]]:
    """Every (runtime, threads, batch) that some latency was measured under, in order of appearance."""
    found = {(r.runtime, r.threads, r.batch): None for c in report.candidates for r in c.latency}
    return list(found)


def headline(report: Report) -> str:
    """One sentence: what the subject is worth against the reference, intervals included."""
    subject, reference = subject_of(report), reference_of(report)
    clauses = [_size_clause(subject, reference), _latency_clause(subject, reference)]
    accuracy = subject.accuracy
    if accuracy:
        clause = f"classifies {in_percent(accuracy.top1, accuracy.total)} of {accuracy.total} images right"
        change = accuracy_change(subject, reference)
        if change and subject is not reference:
            clause += f" ({in_points(change.points)}, 95 % interval {change_interval(change)})"
        clauses.append(clause)
    return f"{subject.name} {_listed([clause for clause in clauses if clause])}."


def _size_clause(subject: Candidate, reference: Candidate) -> str:
    mine, other = subject.facts.file_bytes, reference.facts.file_bytes
    if subject is reference or not mine or not other:
        return f"takes {in_bytes(mine)}"
    if mine == other:
        return f"is as large as {reference.name} ({in_bytes(mine)})"
    times, word = (other / mine, "smaller") if mine < other else (mine / other, "larger")
    return f"is {times:.1f} times {word} than {reference.name} ({in_bytes(mine)})"


def _latency_clause(subject: Candidate, reference: Candidate) -> str:
    if not subject.latency:
        return ""
    record = subject.latency[0]
    if subject is reference:
        return f"takes {in_ms(record.median_ms)} per run"
    interval = f"{ratio_digits(record.ratio_low)} to {ratio_digits(record.ratio_high)}"
    clause = f"runs in {ratio_digits(record.ratio)} of its time (95 % interval {interval})"
    return clause + (", measured on an unstable machine" if record.unstable else "")


def _listed(clauses: list[str]) -> str:
    return " and ".join([", ".join(clauses[:-1]), clauses[-1]]) if len(clauses) > 1 else clauses[0]


def verdict_sentence(verdict: GateVerdict) -> str:
    """The gate in one sentence: what was judged, and which budgets it broke or could not be judged by."""
    count = len(verdict.checks)
    budgets = f"{count} budget{'s' if count != 1 else ''}"
    against = f" against the baseline {verdict.baseline}" if verdict.baseline else ""
    if verdict.exit_code == 0:
        return f"{verdict.candidate} keeps {'its budget' if count == 1 else f'all {budgets}'}{against}"
    broken = [check.metric for check in verdict.checks if check.verdict == "fail"]
    unjudged = [check.metric for check in verdict.checks if check.verdict == "unjudged"]
    parts = [f"breaks {len(broken)} of {budgets}{against} ({_metrics(broken)})"] if broken else []
    if unjudged:
        of = "" if broken else f" of {budgets}{against}"
        parts.append(f"cannot be judged by {len(unjudged)}{of} ({_metrics(unjudged)})")
    return f"{verdict.candidate} {' and '.join(parts)}"


def _metrics(names: list[str]) -> str:
    return ", ".join(dict.fromkeys(name.replace("_", " ") for name in names))


def warnings(report: Report) -> list[str]:
    """Why figures of this report are incomplete or should not be trusted, one sentence each."""
    found: list[str] = []
    for candidate in report.candidates:
        found.extend(f"{candidate.name}: {note}." for note in candidate.facts.notes)
        for record in candidate.latency:
            if record.unstable:
                where = setting(record.runtime, record.threads, record.batch)
                found.append(f"Latency of {candidate.name} ({where}): {'; '.join(record.unstable)}.")
    return found


def exits(report: Report) -> list[tuple[str, str, Accuracy]]:
    """Candidate, output and accuracy of early exits, the candidate's own answer last; empty where there are none."""
    return [
        (candidate.name, output, found)
        for candidate in report.candidates
        if candidate.exits and candidate.accuracy
        for output, found in {**candidate.exits, MAIN: candidate.accuracy}.items()
    ]


# --- per-layer facts ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reasons:
    """Reasons in order of appearance, each keyed by a letter so that long tables can refer to them."""

    letters: dict[str, str]
    """Reason -> a, b, ..., z, aa, ..."""
    counts: dict[str, int]

    def letter(self, reason: str) -> str:
        return self.letters.get(reason, "")


def reasons(texts: list[str]) -> Reasons:
    counts: dict[str, int] = {}
    for text in texts:
        if text:
            counts[text] = counts.get(text, 0) + 1
    return Reasons({text: _letter(index) for index, text in enumerate(counts)}, counts)


def _letter(index: int) -> str:
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return letters


def width_reasons(widths: tuple[LayerWidth, ...]) -> Reasons:
    return reasons([width.reason for width in widths])


NO_REASON = "no reason was recorded"


def node_reasons(nodes: tuple[NodeOutcome, ...]) -> Reasons:
    return reasons([node.reason or NO_REASON for node in nodes if node.outcome == "float"])


def named_by_reason(nodes: tuple[NodeOutcome, ...]) -> dict[str, list[str]]:
    """Reason -> names of the operators that stayed float for it, in the graph's order."""
    found: dict[str, list[str]] = {}
    for node in nodes:
        if node.outcome == "float":
            found.setdefault(node.reason or NO_REASON, []).append(node.name)
    return found


OP_GLYPHS = {
    "Conv": "C",
    "ConvTranspose": "T",
    "Gemm": "M",
    "MatMul": "M",
    "Add": "+",
    "Mul": "\N{MULTIPLICATION SIGN}",
    "Concat": "\N{PARALLEL TO}",
    "GlobalAveragePool": "G",
    "AveragePool": "P",
    "MaxPool": "P",
    "ReduceMean": "G",
    "Pad": "\N{WHITE SQUARE}",
    "Relu": "R",
    "Sigmoid": "\N{GREEK SMALL LETTER SIGMA}",
}


def glyph(op: str) -> str:
    """One character for an operator, for strips with a cell per operator."""
    return OP_GLYPHS.get(op, op[:1].upper() or "?")
