"""The figures of a study: each network against its reference under the same seed, then means over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..efficiency import compression, performance_efficiency, retention
from ..stats import wilson
from .records import Kind, LatencyRatio, Made, Matching, StudyRecord

PRUNED: tuple[Kind, ...] = ("random-channels", "channels", "weights")


@dataclass(frozen=True)
class Spread:
    mean: float
    std: float | None
    """Sample standard deviation over seeds; None where there is one seed."""


@dataclass(frozen=True)
class Row:
    """One network in one number format, over all seeds that are done."""

    student: str
    kind: Kind
    budget: float | None
    matching: Matching | None
    number_format: str
    seeds: int
    accuracy: Spread
    low: float
    high: float
    """95 % Wilson interval that the number of test images allows around the mean accuracy; the spread over seeds
    comes on top."""
    below_reference: float
    """Points of accuracy."""
    retention: Spread
    compression: Spread
    """Of the parameters that are not zero."""
    efficiency: Spread
    """Performance Efficiency by parameters that are not zero."""
    encoded_efficiency: Spread
    """Performance Efficiency by encoded bytes."""
    nonzero: float
    macs: float
    file_bytes: float
    encoded_bytes: float
    """Means over seeds, as all counts here."""
    packed_bytes: float | None
    latency: LatencyRatio | None
    """Mean ratio; from the lowest to the highest end of the seeds' intervals."""
    rank: int | None
    """By Performance Efficiency, among the pruned networks of this student and format that are accurate enough."""


def rows(record: StudyRecord) -> tuple[Row, ...]:
    """One row per student, network and number format, in the order of the study; a shared teacher leads every
    student's rows."""
    groups: dict[tuple[object, ...], list[Made]] = {}
    for student in students(record):
        for made in record.made:
            cell = made.cell
            if cell.student in (student, ""):
                key = (student, cell.kind, cell.budget, cell.matching, made.number_format)
                groups.setdefault(key, []).append(made)
    return _ranked([_row(record, str(key[0]), group) for key, group in groups.items()], record.tolerance)


def students(record: StudyRecord) -> list[str]:
    """Names of the students of which something is done."""
    return list(dict.fromkeys(made.cell.student for made in record.made if made.cell.kind != "teacher"))


def _row(record: StudyRecord, student: str, group: Sequence[Made]) -> Row:
    references = [_reference(record, student, made.cell.seed) for made in group]

    def spread(figure: Callable[[Made, Made], float]) -> Spread:
        return _spread([figure(made, reference) for made, reference in zip(group, references, strict=True)])

    def mean(figure: Callable[[Made], float]) -> float:
        return statistics.fmean(map(figure, group))

    packed = [made.packed_bytes for made in group if made.packed_bytes is not None]
    first, total = group[0], group[0].accuracy.total
    accuracy = spread(lambda made, _: made.accuracy.top1)
    low, high = wilson(round(accuracy.mean * total), total)
    return Row(
        student=student,
        kind=first.cell.kind,
        budget=first.cell.budget,
        matching=first.cell.matching,
        number_format=first.number_format,
        seeds=len(group),
        accuracy=accuracy,
        low=low,
        high=high,
        below_reference=100 * (statistics.fmean(each.accuracy.top1 for each in references) - accuracy.mean),
        retention=spread(lambda made, reference: retention(made.accuracy.top1, reference.accuracy.top1)),
        compression=spread(lambda made, reference: compression(made.nonzero, reference.nonzero)),
        efficiency=spread(
            lambda made, reference: performance_efficiency(
                made.accuracy.top1, reference.accuracy.top1, made.nonzero, reference.nonzero
            )
        ),
        encoded_efficiency=spread(
            lambda made, reference: performance_efficiency(
                made.accuracy.top1, reference.accuracy.top1, made.encoded_bytes, reference.encoded_bytes
            )
        ),
        nonzero=mean(lambda made: made.nonzero),
        macs=mean(lambda made: made.macs),
        file_bytes=mean(lambda made: made.file_bytes),
        encoded_bytes=mean(lambda made: made.encoded_bytes),
        packed_bytes=statistics.fmean(packed) if len(packed) == len(group) else None,
        latency=_latency([made.latency for made in group if made.latency is not None]),
        rank=None,
    )


def _reference(record: StudyRecord, student: str, seed: int) -> Made:
    return next(
        made
        for made in record.made
        if made.cell.kind == record.reference
        and made.number_format == "float"
        and made.cell.student in (student, "")
        and made.cell.seed == seed
    )


def _spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def _latency(found: Sequence[LatencyRatio]) -> LatencyRatio | None:
    if not found:
        return None
    doubts = dict.fromkeys(doubt for each in found for doubt in each.unstable)
    return found[0].model_copy(
        update={
            "ratio": statistics.fmean(each.ratio for each in found),
            "low": min(each.low for each in found),
            "high": max(each.high for each in found),
            "unstable": tuple(doubts),
        }
    )


def _ranked(found: Sequence[Row], tolerance: float) -> tuple[Row, ...]:
    """The rows with their rank; those that lose more than `tolerance` points get none."""
    able = [row for row in found if row.kind in PRUNED and row.below_reference <= tolerance + 1e-9]
    best_first = sorted(able, key=lambda row: -row.efficiency.mean)
    ranks: dict[int, int] = {}
    rivals: dict[tuple[str, str], int] = {}
    for row in best_first:
        rivals[row.student, row.number_format] = rivals.get((row.student, row.number_format), 0) + 1
        ranks[id(row)] = rivals[row.student, row.number_format]
    return tuple(replace(row, rank=ranks.get(id(row))) for row in found)
