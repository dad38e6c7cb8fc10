"""The plots of a report as SVG fragments for the HTML page: intervals drawn, lines and points labelled directly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator
from matplotlib.transforms import Bbox

from .curves import curves, shares
from .records import Candidate, Latency, Report
from .svg import INK, MUTED, PAPER, WARN, Plot, drawing, figure, fragment, plain, series
from .units import in_bytes, in_ms
from .view import setting, settings

LOG_SPAN = 8.0
"""Beyond this ratio of largest to smallest an axis is logarithmic."""


@dataclass(frozen=True)
class _Point:
    x: float
    x_low: float
    x_high: float
    candidate: Candidate
    index: int


def plots(report: Report) -> dict[str, list[Plot]]:
    """All plots that the report's measurements allow, by section: tradeoff, latency, curves, shares."""
    with drawing():
        return {
            "tradeoff": _tradeoffs(report),
            "latency": _latencies(report),
            "curves": curves(report),
            "shares": shares(report),
        }


# --- accuracy against cost ----------------------------------------------------------------------------------


def _tradeoffs(report: Report) -> list[Plot]:
    candidates = list(enumerate(report.candidates))
    measured = [(index, candidate) for index, candidate in candidates if candidate.accuracy]
    if not measured:
        return []
    found = []
    for number, key in enumerate(settings(report)):
        points = []
        for index, candidate in measured:
            record = _under(candidate, key)
            if record:
                points.append(_Point(record.median_ms, record.q1_ms, record.q3_ms, candidate, index))
        title = "Accuracy over latency"
        note = f"{setting(*key)}. Horizontal bars: quartiles of the runs; vertical bars: 95 % intervals."
        found.append(_scatter(points, title, "ms", f"latency-{number}", note, report.reference))
    points = [_Point(c.facts.file_bytes, 0, 0, c, i) for i, c in measured if c.facts.file_bytes]
    note = "Size of the deployed file. Vertical bars: 95 % intervals."
    found.append(_scatter(points, "Accuracy over size", "bytes", "size", note, report.reference))
    return found


def _under(candidate: Candidate, key: tuple[str, int, int]) -> Latency | None:
    return next((r for r in candidate.latency if (r.runtime, r.threads, r.batch) == key), None)


def _scatter(points: Sequence[_Point], title: str, unit: str, name: str, note: str, reference: str) -> Plot:
    drawn = figure(5.3, 3.5)
    axes = drawn.add_subplot()
    for point in points:
        accuracy = point.candidate.accuracy
        if accuracy is None:
            continue
        colour, y = series(point.index), 100 * accuracy.top1
        axes.vlines(point.x, 100 * accuracy.low, 100 * accuracy.high, color=colour, linewidth=1.3)
        if point.x_high > point.x_low:
            axes.hlines(y, point.x_low, point.x_high, color=colour, linewidth=1.3)
        fill = PAPER if point.candidate.name == reference else colour
        axes.plot(point.x, y, "o", color=colour, markersize=6.5, markerfacecolor=fill, markeredgewidth=1.6)
    _cost_axis(axes, [point.x for point in points], unit)
    axes.set_ylabel("top-1 accuracy, %")
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.margins(y=0.12)
    drawn.draw_without_rendering()
    _label_points(axes, points)
    names = ", ".join(point.candidate.name for point in points)
    return Plot(title, fragment(drawn, f"plot-{name}", f"{title}: {names}"), note)


def _cost_axis(axes: Axes, values: Sequence[float], unit: str) -> None:
    """From zero while the values lie within a factor of eight, else logarithmic; ticks in people's units."""
    low, high = min(values, default=1.0), max(values, default=1.0)
    text = in_ms if unit == "ms" else in_bytes
    if low > 0 and high / low > LOG_SPAN:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.6, high * 1.6)
        steps = (1, 3) if high / low > 60 else (1, 2, 5)
        decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        axes.xaxis.set_major_locator(FixedLocator([t for t in ticks if low / 1.6 <= t <= high * 1.6]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, high * 1.12)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, text(value))))


def _tick(value: float, text: str) -> str:
    """Ticks are round numbers: 0.200 ms reads 0.2 ms."""
    if not value:
        return "0"
    number, _, unit = text.partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}"


def _label_points(axes: Axes, points: Sequence[_Point]) -> None:
    """Write each name beside its point where it covers least of what is drawn already."""
    canvas = axes.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    renderer = canvas.get_renderer()
    inside = axes.get_window_extent(renderer)
    taken: list[Bbox] = []
    for point in points:
        taken.extend(_marks(axes, point))
    heights = (4, -12, 15, -24, 27, -36, 39, -48, 51)
    offsets = [(dx, dy, side) for dy in heights for dx, side in ((9, "left"), (-9, "right"))]
    written: list[Bbox] = []
    for point in points:
        accuracy = point.candidate.accuracy
        if accuracy is None:
            continue
        choices = []
        for rank, (dx, dy, side) in enumerate(offsets):
            label = axes.annotate(
                _short(point.candidate.name),
                (point.x, 100 * accuracy.top1),
                xytext=(dx, dy),
                textcoords="offset points",
                ha=side,
                color=series(point.index),
                fontsize=8.5,
                fontweight="bold",
                annotation_clip=False,
            )
            label.set_in_layout(False)
            box = label.get_window_extent(renderer)
            outside = box.width * box.height - _overlap(box, inside)
            cost = sum(_overlap(box, other) for other in taken) + 4 * outside
            cost += 8 * sum(_overlap(box, other) for other in written) + 0.5 * rank
            choices.append((cost, rank, label, box))
        best = min(choices, key=lambda choice: choice[:2])
        for _, _, label, _ in choices:
            if label is not best[2]:
                label.remove()
        written.append(best[3])


def _short(name: str, longest: int = 28) -> str:
    """A name that fits a plot: its middle gives way, since names of one family differ at their ends."""
    name = plain(name)
    if len(name) <= longest:
        return name
    half = (longest - 1) // 2
    return f"{name[:half]}\N{HORIZONTAL ELLIPSIS}{name[-half:]}"


def _marks(axes: Axes, point: _Point) -> list[Bbox]:
    accuracy = point.candidate.accuracy
    if accuracy is None:
        return []
    to_pixels = axes.transData.transform
    x, y = to_pixels((point.x, 100 * accuracy.top1))
    bottom = to_pixels((point.x, 100 * accuracy.low))[1]
    top = to_pixels((point.x, 100 * accuracy.high))[1]
    boxes = [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5), Bbox.from_extents(x - 1, bottom, x + 1, top)]
    if point.x_high > point.x_low:
        left, right = to_pixels((point.x_low, 0))[0], to_pixels((point.x_high, 0))[0]
        boxes.append(Bbox.from_extents(left, y - 1, right, y + 1))
    return boxes


def _overlap(a: Bbox, b: Bbox) -> float:
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return max(0.0, width) * max(0.0, height)


# --- latency ------------------------------------------------------------------------------------------------


def _latencies(report: Report) -> list[Plot]:
    found = []
    for number, key in enumerate(settings(report)):
        records = [(i, c, _under(c, key)) for i, c in enumerate(report.candidates)]
        measured = [(i, c, record) for i, c, record in records if record and record.bursts_ms]
        if not measured:
            continue
        found.append(_bursts(measured, number, key))
        found.append(_drift(measured, number))
    return found


def _bursts(measured: Sequence[tuple[int, Candidate, Latency]], number: int, key: tuple[str, int, int]) -> Plot:
    """One row per candidate: every burst a tick, the quartiles a bar, the median labelled."""
    drawn = figure(5.3, 0.75 + 0.52 * len(measured))
    axes = drawn.add_subplot()
    for row, (index, candidate, record) in enumerate(measured):
        colour = series(index)
        axes.plot(record.bursts_ms, [row] * len(record.bursts_ms), "|", color=colour, markersize=9, alpha=0.45)
        axes.hlines(row, record.q1_ms, record.q3_ms, color=colour, linewidth=5, alpha=0.9)
        axes.plot(record.median_ms, row, "o", color=colour, markersize=6, markeredgecolor=PAPER)
        for text, ha, x, ink in (
            (_short(candidate.name), "left", 0.0, colour),
            (in_ms(record.median_ms), "right", 1.0, INK),
        ):
            axes.text(
                x, row - 0.3, text, transform=axes.get_yaxis_transform(), ha=ha, va="bottom", color=ink,
                fontweight="bold" if ha == "left" else "normal",
            )  # fmt: skip
    axes.set_ylim(len(measured) - 0.55, -0.85)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    everything = [burst for _, _, record in measured for burst in record.bursts_ms]
    _cost_axis(axes, [min(everything), max(everything)], "ms")
    note = f"{setting(*key)}. Thin ticks: medians of bursts; bar: quartiles of all runs; dot: median."
    label = "Latency distribution: " + ", ".join(f"{c.name} {in_ms(r.median_ms)}" for _, c, r in measured)
    return Plot("Latency distribution", fragment(drawn, f"plot-bursts-{number}", label), note)


def _drift(measured: Sequence[tuple[int, Candidate, Latency]], number: int) -> Plot:
    """One row per candidate: each burst against the candidate's own median, in order of time."""
    drawn = figure(5.3, 0.75 + 0.62 * len(measured))
    panels = drawn.subplots(len(measured), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    worst = 5.0
    for axes, (index, candidate, record) in zip(panels, measured, strict=True):
        middle = sorted(record.bursts_ms)[len(record.bursts_ms) // 2]
        swings = [100 * (burst / middle - 1) for burst in record.bursts_ms]
        worst = max(worst, *(abs(swing) for swing in swings))
        axes.axhline(0, color=MUTED, linewidth=0.6)
        axes.plot(range(1, len(swings) + 1), swings, color=series(index), linewidth=1.1)
        mark = WARN if record.unstable else series(index)
        name = _short(candidate.name) + (" (unstable)" if record.unstable else "")
        axes.text(0, 1.0, name, transform=axes.transAxes, color=mark, va="bottom", fontsize=8, fontweight="bold")
        axes.grid(axis="x", visible=False)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.0f} %" if value else "0"))
    limit = min(60.0, 1.25 * worst)
    for axes in panels:
        axes.set_ylim(-limit, limit)
        axes.yaxis.set_major_locator(FixedLocator([-_round(limit), 0, _round(limit)]))
        axes.spines["bottom"].set_visible(False)
    panels[-1].set_xlabel("burst, in order of time")
    panels[-1].xaxis.set_major_locator(MaxNLocator(6, integer=True))
    note = "Each burst against the candidate's own median: flat lines mean a steady machine."
    names = ", ".join(candidate.name for _, candidate, _ in measured)
    svg = fragment(drawn, f"plot-drift-{number}", f"Latency over the course of the measurement: {names}")
    return Plot("Steadiness while measuring", svg, note)


def _round(value: float) -> float:
    """The largest of 1, 2, 5 x 10^n that is at most 0.8 of `value`."""
    decade = 10.0 ** math.floor(math.log10(0.8 * value))
    return max(step * decade for step in (1, 2, 5) if step * decade <= 0.8 * value)
