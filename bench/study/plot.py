"""A study as one drawing: per student, accuracy against parameters, encoded bytes and latency."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from ..svg import INK, PAPER, document, drawing, figure, fragment, series
from ..units import in_bytes, in_count, ratio_digits
from .records import StudyRecord
from .rows import PRUNED, Row, rows, students
from .table import NAMES

LOG_SPAN = 4.0
"""Beyond this ratio of largest to smallest an axis is logarithmic."""


class _Panel(NamedTuple):
    title: str
    number_format: str
    at: Callable[[Row], float | None]
    tick: Callable[[float], str]
    interval: bool = False
    """Whether it shows the interval of the latency ratio."""


def draw(record: StudyRecord) -> str:
    """study.svg; an empty text while nothing is done."""
    found, names = rows(record), students(record)
    if not found or not names:
        return ""
    shipped = "int8" if any(row.number_format == "int8" for row in found) else "float"
    panels = (
        _Panel("parameters that are not zero (float)", "float", lambda row: row.nonzero, in_count),
        _Panel(f"encoded bytes ({shipped})", shipped, lambda row: row.encoded_bytes, in_bytes),
        _Panel(f"latency, share of the float student's ({shipped})", shipped, _ratio, ratio_digits, True),
    )
    with drawing():
        drawn = figure(3.5 * len(panels), 0.6 + 2.5 * len(names))
        grid = drawn.subplots(len(names), len(panels), squeeze=False, sharey="row")
        for axes_row, student in zip(grid, names, strict=True):
            mine = [row for row in found if row.student == student]
            for axes, panel in zip(axes_row, panels, strict=True):
                _draw_panel(axes, [row for row in mine if row.number_format == panel.number_format], panel)
            axes_row[0].set_ylabel(f"{student}\ntop-1, %", color=INK)
        for axes, panel in zip(grid[-1], panels, strict=True):
            axes.set_xlabel(panel.title)
        handles = _handles(found)
        drawn.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
        label = f"Accuracy against size and latency, by kind of pruning: {', '.join(names)}"
        return document(fragment(drawn, "study", label))


def _ratio(row: Row) -> float | None:
    return None if row.latency is None else row.latency.ratio


def _key(row: Row) -> tuple[str, str]:
    return row.kind, row.matching or ""


_COLOURS = {
    ("teacher", ""): series(0),
    ("student", ""): INK,
    ("unpruned", ""): series(5),
    ("channels", ""): series(1),
    ("weights", "parameters"): series(2),
    ("weights", "encoded-size"): series(3),
    ("random-channels", ""): series(4),
}


def _draw_panel(axes: Axes, found: Sequence[Row], panel: _Panel) -> None:
    points = [(row, x) for row in found if (x := panel.at(row)) is not None]
    for key, colour in _COLOURS.items():
        mine = sorted([(x, row) for row, x in points if _key(row) == key], key=lambda point: point[0])
        axes.plot([x for x, _ in mine], [100 * row.accuracy.mean for _, row in mine], color=colour, linewidth=1.1)
        for x, row in mine:
            axes.vlines(x, 100 * row.low, 100 * row.high, color=colour, linewidth=1.1)
            if panel.interval and row.latency is not None:
                axes.hlines(100 * row.accuracy.mean, row.latency.low, row.latency.high, color=colour, linewidth=1.1)
            axes.plot(x, 100 * row.accuracy.mean, "o", color=colour, markersize=5, markerfacecolor=_fill(key))
    values = [x for _, x in points if x > 0]
    if values and max(values) / min(values) > LOG_SPAN:
        axes.set_xscale("log")
        axes.set_xlim(min(values) / 1.5, max(values) * 1.5)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(values) / min(values) < 60 else (1, 3)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif values:
        axes.set_xlim(0, 1.1 * max(values))
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(panel.tick(value))))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _tick(text: str) -> str:
    """Ticks are round numbers: 10.0 k reads 10 k."""
    number, blank, unit = text.partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number}{blank}{unit}"


def _handles(found: Sequence[Row]) -> list[Line2D]:
    present = {_key(row) for row in found}
    return [
        Line2D(
            [],
            [],
            color=colour,
            marker="o",
            linewidth=1.1,
            markersize=5,
            label=_label(*key),
            markerfacecolor=_fill(key),
        )
        for key, colour in _COLOURS.items()
        if key in present
    ]


def _fill(key: tuple[str, str]) -> str:
    """Pruned networks are filled, those that they are judged against hollow."""
    return _COLOURS[key] if key[0] in PRUNED else PAPER


def _label(kind: str, matching: str) -> str:
    return NAMES[kind] + (f", same {matching.replace('-', ' ')}" if matching else "")
