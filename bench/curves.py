"""How training went, stage by stage: learning curves, and the share that a teacher had in the loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from .records import EpochPoint, Report, StageRecord
from .svg import INK, MUTED, Plot, figure, fragment, series
from .units import significant

STEPS = 4
"""A schedule of so many different learning rates, or fewer, goes by steps: its axis is logarithmic."""
_TAUGHT = series(1)


def curves(report: Report) -> list[Plot]:
    """Accuracy, loss and, where it was recorded, the learning rate of every training stage; accuracies on one scale."""
    trained = list(_trained(report))
    shares = [share for _, stage in trained for point in stage.epochs for share in _accuracies(point)]
    floor = max(0.0, 100 * min(shares, default=0.0) - 3)
    return [_curve(stage.epochs, f"{number}. {stage.do}", f"plot-curve-{number}", floor) for number, stage in trained]


def shares(report: Report) -> list[Plot]:
    """The teacher's share in the loss over the epochs, of every stage in which it differed between images or moved."""
    found = []
    for number, stage in _trained(report):
        points = [point for point in stage.epochs if "share_mean" in point.logged]
        if points and _spread(points) > 0:
            weighting = stage.settings.get("weighting", "")
            found.append(_share(points, f"{number}. {stage.do}", f"plot-share-{number}", str(weighting)))
    return found


def _trained(report: Report) -> Iterator[tuple[int, StageRecord]]:
    for number, stage in enumerate(report.stages, start=1):
        if stage.epochs:
            yield number, stage


def _accuracies(point: EpochPoint) -> list[float]:
    return [share for share in (point.train_accuracy, point.test_accuracy) if share is not None]


def _spread(points: Sequence[EpochPoint]) -> float:
    values = [value for point in points for key, value in point.logged.items() if key.startswith("share_")]
    return max(values) - min(values)


def _curve(points: Sequence[EpochPoint], title: str, name: str, floor: float) -> Plot:
    rates = [(point.epoch, point.lr) for point in points if point.lr is not None and point.lr > 0]
    drawn = figure(3.6, 4.0 if rates else 3.2)
    panels = drawn.subplots(3 if rates else 2, 1, sharex=True, height_ratios=(3, 2, 1.3)[: 3 if rates else 2])
    _draw_accuracy(panels[0], points, floor)
    mark = _mark(points)
    epochs = [point.epoch for point in points]
    panels[1].plot(epochs, [point.loss for point in points], color=MUTED, marker=mark, markersize=4)
    panels[1].set_ylabel("loss")
    if min(point.loss for point in points) >= 0:
        panels[1].set_ylim(bottom=0)
    if rates:
        _draw_rates(panels[2], rates, mark)
    _epoch_axis(panels[-1])
    drawn.align_ylabels()
    note = f"{len(points)} epoch{'s' if len(points) > 1 else ''}, {points[-1].images_per_second:.0f} images/s."
    return Plot(title, fragment(drawn, name, f"Learning curves of stage {title}: {_outcome(points)}"), note)


def _outcome(points: Sequence[EpochPoint]) -> str:
    """The last epoch in words, for those who hear the page."""
    last = points[-1]
    tested = "" if last.test_accuracy is None else f", {100 * last.test_accuracy:.1f} % of test images right"
    return (
        f"after epoch {last.epoch} loss {significant(last.loss)}, {100 * last.train_accuracy:.1f} % of training images "
        f"right{tested}"
    )


def _draw_accuracy(axes: Axes, points: Sequence[EpochPoint], floor: float) -> None:
    train = [100 * point.train_accuracy for point in points]
    tested = [(point.epoch, 100 * point.test_accuracy) for point in points if point.test_accuracy is not None]
    axes.plot([point.epoch for point in points], train, color=MUTED, marker=_mark(points), markersize=4)
    style = "o" if len(tested) == 1 else "o-" if len(tested) <= 30 else "-"
    axes.plot([x for x, _ in tested], [y for _, y in tested], style, color=INK, markersize=4.5)
    axes.set_ylim(floor, 101)
    axes.set_ylabel("accuracy, %")
    ends = [(train[-1], f"train {train[-1]:.1f}", MUTED)]
    ends += [(tested[-1][1], f"test {tested[-1][1]:.1f}", INK)] if tested else []
    _label_ends(axes, ends, 101 - floor)


def _draw_rates(axes: Axes, rates: Sequence[tuple[int, float]], mark: str) -> None:
    values = [rate for _, rate in rates]
    axes.plot([epoch for epoch, _ in rates], values, color=MUTED, marker=mark, markersize=4)
    axes.set_ylabel("lr")
    if len(set(values)) <= STEPS and max(values) > 8 * min(values):
        axes.set_yscale("log")
        axes.set_ylim(min(values) / 2, max(values) * 2)
        axes.yaxis.set_major_locator(FixedLocator(sorted(set(values))))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(0, 1.15 * max(values))
        axes.yaxis.set_major_locator(FixedLocator([0, max(values)]))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.2g}")


def _share(points: Sequence[EpochPoint], title: str, name: str, weighting: str) -> Plot:
    drawn = figure(3.6, 2.2)
    axes = drawn.add_subplot()
    epochs = [float(point.epoch) for point in points]
    if len(points) == 1:  # an area needs a width
        epochs = [epochs[0] - 0.2, epochs[0] + 0.2]
        points = [points[0], points[0]]

    def logged(key: str) -> list[float]:
        return [point.logged.get(key, point.logged["share_mean"]) for point in points]

    axes.fill_between(epochs, logged("share_min"), logged("share_max"), color=_TAUGHT, alpha=0.16, linewidth=0)
    axes.fill_between(epochs, logged("share_q1"), logged("share_q3"), color=_TAUGHT, alpha=0.32, linewidth=0)
    means = logged("share_mean")
    axes.plot(epochs, means, color=_TAUGHT)
    axes.set_ylim(0, 1)
    axes.set_ylabel("teacher's share")
    _epoch_axis(axes)
    _label_ends(axes, [(means[-1], f"mean {means[-1]:.2f}", _TAUGHT)], 1)
    label = (
        f"Teacher's share in the loss of stage {title}: mean {means[0]:.2f} in the first epoch and {means[-1]:.2f} in "
        "the last"
    )
    rule = f"weighting = {weighting}. " if weighting else ""
    note = f"{rule}Line: mean over images; dark: the middle half of them; pale: all."
    return Plot(title, fragment(drawn, name, label), note)


def _epoch_axis(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.margins(x=0.03)


def _mark(points: Sequence[EpochPoint]) -> str:
    return "o" if len(points) == 1 else ""


def _label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]], span: float) -> None:
    """Labels to the right of the last epoch, pushed apart where lines end close together."""
    placed = sorted(ends, key=lambda end: end[0])
    height = -math.inf
    for value, text, colour in placed:
        height = max(value, height + 0.11 * span)
        axes.annotate(
            text, (1, height), xycoords=axes.get_yaxis_transform(), xytext=(4, 0),
            textcoords="offset points", va="center", color=colour, fontsize=8, fontweight="bold",
        )  # fmt: skip
