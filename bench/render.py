"""A report as Markdown and as one self-contained HTML page, through the two templates beside this file."""

from __future__ import annotations

import json
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from . import units, view
from .class_table import class_rows, confusions
from .paired import accuracy_change
from .plots import plots
from .records import LayerWidth, Report
from .svg import SERIES, variables
from .toml_text import to_toml

TEMPLATES = Path(__file__).parent / "templates"
MOST_CLASSES = 20
"""Classes shown at once; the HTML page folds the others away, and the Markdown leaves them out."""


def render_html(report: Report) -> str:
    """The HTML page. Every text of the report is escaped; the plots are the only markup that is passed through."""
    return _environment(html=True).get_template("report.html.j2").render(**_context(report), **_html(report))


def render_markdown(report: Report) -> str:
    """The Markdown for pull requests: figures, gate, stages, layers with reasons, environment, files."""
    text = _environment(html=False).get_template("report.md.j2").render(**_context(report))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _environment(html: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        typeset=_typeset,
        cell=_markdown_cell,
        bytes=units.in_bytes,
        count=units.in_count,
        ms=units.in_ms,
        plain=_plain_value,
        percent=units.in_percent,
        points=lambda points, total: units.in_points(points, units.percent_decimals(total)),
    )
    return environment


def _context(report: Report) -> dict[str, object]:
    subject, reference = view.subject_of(report), view.reference_of(report)
    classes = class_rows(report)
    return {
        "report": report,
        "classes": classes,
        "compared": any(row.reference for row in classes),
        "confusions": confusions(report),
        "exits": view.exits(report),
        "most_classes": MOST_CLASSES,
        "between": lambda low, high, total: view.between(low, high, units.percent_decimals(total)),
        "between_points": _between_points,
        "rows": view.rows(report),
        "subject": subject,
        "reference": reference,
        "headline": view.headline(report),
        "warnings": view.warnings(report),
        "settings": view.settings(report),
        "setting": view.setting,
        "verdict": view.VERDICT_WORDS[report.gate.exit_code] if report.gate else None,
        "verdict_sentence": view.verdict_sentence(report.gate) if report.gate else None,
        "pruned": [stage for stage in report.stages if stage.widths],
        "quantized": [candidate for candidate in report.candidates if candidate.nodes],
        "width_reasons": view.width_reasons,
        "node_reasons": view.node_reasons,
        "named_by_reason": view.named_by_reason,
        "recipe": _recipe_text(report),
    }


def _html(report: Report) -> dict[str, object]:
    drawn = plots(report)
    return {
        "plots": {
            section: [(plot.title, Markup(plot.svg), plot.note) for plot in entries]
            for section, entries in drawn.items()
        },
        "tiles": _tiles(report),
        "scales": _scales(report),
        "glyph": view.glyph,
        "colour": {candidate.name: index % SERIES for index, candidate in enumerate(report.candidates)},
        "width_bar": _width_bar,
        "variables": variables,
    }


# --- figures for the page -----------------------------------------------------------------------------------


def _tiles(report: Report) -> list[dict[str, object]]:
    """The subject's four figures, each with its share of the reference's for a small bar."""
    subject, reference = view.subject_of(report), view.reference_of(report)
    other = reference if subject is not reference else None
    facts = subject.facts
    tiles: list[dict[str, object]] = []
    accuracy = subject.accuracy
    if accuracy:
        change = accuracy_change(subject, reference) if other else None
        decimals = units.percent_decimals(accuracy.total)
        note = f"95 %: {view.between(100 * accuracy.low, 100 * accuracy.high, decimals)}"
        if change:
            note = f"{units.in_points(change.points)} ({view.change_interval(change)})"
        drawn = (accuracy.low, accuracy.top1, accuracy.high)
        shown = units.in_percent(accuracy.top1, accuracy.total)
        tiles.append(_tile("top-1 accuracy", shown, note, None, drawn))
    tiles.append(_cost_tile("file size", facts.file_bytes, other.facts.file_bytes if other else None))
    if subject.latency:
        record = subject.latency[0]
        note = "per run"
        if other:
            interval = f"{units.ratio_digits(record.ratio_low)} to {units.ratio_digits(record.ratio_high)}"
            note = f"{units.in_ratio(record.ratio)} ({interval})"
        tiles.append(_tile("latency", units.in_ms(record.median_ms), note, record.ratio if other else None))
    if subject.memory:
        theirs = other.memory[0].peak if other and other.memory else None
        tiles.append(_cost_tile("peak resident memory", subject.memory[0].peak, theirs))
    theirs = other.facts.activation_peak if other else None
    tiles.append(_cost_tile("activation peak", facts.activation_peak, theirs))
    return tiles


def _tile(
    label: str,
    value: str,
    note: str,
    share: float | None,
    interval: tuple[float, float, float] | None = None,
) -> dict[str, object]:
    return {"label": label, "value": value, "note": note, "share": share, "interval": interval}


def _cost_tile(label: str, value: int, other: int | None) -> dict[str, object]:
    shown = units.in_bytes(value)
    if not other:
        return _tile(label, shown, "", None)
    return _tile(label, shown, f"{units.in_ratio(value / other)} of {units.in_bytes(other)}", value / other)


def _scales(report: Report) -> dict[str, tuple[float, float]]:
    """Common scales of the small interval drawings in the table."""
    shares = [(c.accuracy.low, c.accuracy.high) for c in report.candidates if c.accuracy]
    ratios = [r.ratio_high for c in report.candidates for r in c.latency]
    recalls = [recall for row in class_rows(report) for recall in (row.recall, row.reference) if recall]
    return {
        "top1": _scale(shares),
        "recall": _scale([(recall.low, recall.high) for recall in recalls]),
        "ratio": (0.0, 1.06 * max(ratios, default=1.0)),
    }


def _scale(intervals: list[tuple[float, float]]) -> tuple[float, float]:
    low, high = min((low for low, _ in intervals), default=0.0), max((high for _, high in intervals), default=1.0)
    pad = 0.08 * (high - low)
    return low - pad, high + pad


def _width_bar(width: LayerWidth, widths: tuple[LayerWidth, ...]) -> tuple[float, float]:
    """Widths before and after as percentages of the widest layer."""
    widest = max(entry.before for entry in widths) or 1
    return 100 * width.before / widest, 100 * width.after / widest


# --- texts --------------------------------------------------------------------------------------------------


def _between_points(low: float, high: float, total: int) -> str:
    decimals = units.percent_decimals(total)
    return f"{units.signed(low, decimals)} to {units.signed(high, decimals)}"


def _typeset(text: str) -> str:
    """Figures as a typesetter writes them: a real minus, a multiplication sign, no break before a unit."""
    text = re.sub(r"(?<![\w-])-(?=\d)", "\N{MINUS SIGN}", text)
    text = re.sub(r"(?<=\d) x\b", "\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}", text)
    return re.sub(r"(?<=\d) (?=(?:[kMGT]?B|[kMGT]|ms|s|%|pt)\b|%)", "\N{NO-BREAK SPACE}", text)


def _markdown_cell(text: object) -> str:
    """Text that stays inside one table cell and is no markup there."""
    flat = " ".join(str(text).split())
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", flat)


def _plain_value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _recipe_text(report: Report) -> str:
    if not report.recipe:
        return ""
    try:
        return to_toml(report.recipe)
    except ValueError:
        return json.dumps(report.recipe, indent=2, ensure_ascii=False, default=str)
